"""Agents and workers that a real KEDA scales. `make test-keda` builds it, installs it in a cluster of its own, and runs these."""
