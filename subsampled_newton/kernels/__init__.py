"""Compiled loops over blocks of rows. They check nothing: `data.py` does."""
