"""Measures the operator on a real API server: `python -m tests.bench` from the root of the repository prints the tables.

These are no tests: nothing fails when a machine is slow. docs/operator-figures.md has what they printed, and on what.
"""
