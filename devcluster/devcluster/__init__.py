"""A real Kubernetes for demo and tests, on a bare Linux machine. Standard library only: it runs before any environment exists."""
