"""A guarded agent with a typed input and output, as several interfaces are asked about it."""

from __future__ import annotations

TOKEN = "canary-token-web-123456"
AUTH = {
    "type": "BearerToken",
    "tokens": [{"name": "web", "valueFrom": {"secretKeyRef": {"name": "support-web", "key": "token"}}}],
}
INPUT = {
    "schema": {
        "type": "object",
        "required": ["customer_id", "issue"],
        "properties": {"customer_id": {"type": "integer"}, "issue": {"type": "string"}},
    },
    "promptTemplate": "Customer {customer_id}: {issue}",
}
OUTPUT = {
    "type": "object",
    "required": ["response", "suggested_actions", "escalated"],
    "properties": {
        "response": {"type": "string"},
        "suggested_actions": {"type": "array", "items": {"type": "string"}},
        "escalated": {"type": "boolean"},
    },
}
