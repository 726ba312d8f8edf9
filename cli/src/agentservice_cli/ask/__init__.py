"""A question to an agent, here or in a cluster, and its answer as it comes."""
