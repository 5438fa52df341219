"""Experiments of the papers, one command each: ``python -m bench reproduce``."""
