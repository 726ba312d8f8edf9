"""Agents in real pods: what a person and a caller see of them when specifications, Secrets, pods and the operator change."""
