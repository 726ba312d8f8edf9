"""Everything that talks to the Kubernetes API server: the only I/O below the shell."""
