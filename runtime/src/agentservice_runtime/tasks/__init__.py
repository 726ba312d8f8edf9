"""Tasks: runs that are asked for now and answered later, by whichever process of the agent has room."""
