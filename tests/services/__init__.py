"""Real services that tests start beside the API server."""
