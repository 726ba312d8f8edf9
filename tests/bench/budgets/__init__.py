"""Proves that budgets hold, with real processes: `python -m tests.bench.budgets` from the root of the repository prints the tables.

The truth is the model server's own count of what it billed, never ours. docs/budget-figures.md has what it printed, and on what.
"""
