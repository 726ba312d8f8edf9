"""Everything that talks to an API server, with the `kubernetes` package's client; it needs the extra `[cluster]`."""
