"""What serving an agent costs, beside the bare loop of its library and beside the app of the production guide."""
