"""An agent on this machine, without a cluster."""
