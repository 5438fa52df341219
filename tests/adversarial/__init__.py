"""Nasty convex problems for every solver: does a fit say so when it failed?

``python -m tests.adversarial`` prints the table; `test_battery` runs a share of it.
"""
