"""Containers of rows that live elsewhere than in the memory of this process."""
