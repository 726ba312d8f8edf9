"""The command line end to end, without a cluster."""
