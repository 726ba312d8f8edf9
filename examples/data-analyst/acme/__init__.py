"""Acme's agents: what a team's own Python package looks like."""
