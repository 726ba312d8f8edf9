"""Who may ask agents that want a token, where their Secrets are called `web` and `batch`."""

WEB, BATCH = "canary-token-web-123456", "canary-token-batch-123456"
AUTH = {
    "type": "BearerToken",
    "tokens": [
        {"name": "web", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}},
        {"name": "batch", "valueFrom": {"secretKeyRef": {"name": "batch", "key": "token"}}},
    ],
    "callerHeader": "X-Caller-Id",
}
ADA = {"authorization": f"Bearer {WEB}", "x-caller-id": "ada"}
