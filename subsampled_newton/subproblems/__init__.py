"""Minimizers of quadratic and cubic models, functions of arrays and products."""
