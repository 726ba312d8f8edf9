"""Ledgers: where a reservation is made before a model request and settled after it."""
