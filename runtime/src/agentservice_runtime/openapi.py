"""Decides what `/openapi.json` says: this agent's own requests and answers, from its schemas."""

from __future__ import annotations

from typing import Any, Final

from agentservice_api import RuntimeConfig
from agentservice_api.spec import AuthType
from agentservice_runtime.errors import Category

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "category", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "category": {"enum": [str(c) for c in Category]},
        "retryable": {"type": "boolean"},
        "retry_after": {"type": ["number", "null"], "description": "Seconds."},
        "run_id": {"type": ["string", "null"]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_STATUSES: Final = {
    "400": "The body is no JSON, or too deep",
    "401": "No valid token",
    "408": "The body took too long to arrive",
    "413": "The body is too large",
    "415": "The body is not application/json",
    "422": "The input does not fit; the fields are named",
    "429": "The provider limits the rate, or a limit of the run is reached",
    "500": "The agent failed",
    "502": "The model's provider or a tool server failed",
    "503": "No room for another run; see Retry-After",
    "504": "The run took too long",
}


def openapi(
    config: RuntimeConfig, *, revision: str, input_schema: dict[str, Any], output_schema: dict[str, Any]
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document. `$ref`s of the agent's schemas are turned to their new place."""
    secured = config.auth.type is AuthType.BEARER_TOKEN
    failures = {
        status: {"description": text, "content": {"application/problem+json": {"schema": _ref("Problem")}}}
        for status, text in _STATUSES.items()
        if secured or status != "401"
    }
    body = {"required": True, "content": {"application/json": {"schema": _ref("Run")}}}
    security: list[dict[str, list[str]]] = [{"token": []}] if secured else []
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": config.name, "version": revision or "local", "description": config.agent.description or ""},
        "paths": {
            "/v1/run": {
                "post": {
                    "summary": "Run the agent and answer when it is done",
                    "operationId": "run",
                    "security": security,
                    "requestBody": body,
                    "responses": {
                        "200": {
                            "description": "The answer",
                            "content": {"application/json": {"schema": _ref("Answer")}},
                        },
                        **failures,
                    },
                }
            },
            "/v1/stream": {
                "post": {
                    "summary": "Run the agent and send its answer as it comes",
                    "description": "Server-sent events: delta {text} (or {partial} of a structured answer), tool {name, phase: start|end}, "
                    "then one result (as /v1/run answers) or error (a problem document).",
                    "operationId": "stream",
                    "security": security,
                    "requestBody": body,
                    "responses": {
                        "200": {
                            "description": "The events",
                            "content": {"text/event-stream": {"schema": {"type": "string"}}},
                        },
                        **failures,
                    },
                }
            },
        },
        "components": {
            "schemas": {
                "Run": {
                    "type": "object",
                    "required": ["input"],
                    "additionalProperties": False,
                    "properties": {"input": _ref("Input")},
                },
                "Answer": {
                    "type": "object",
                    "required": ["run_id", "output", "usage", "cost_usd", "model"],
                    "properties": {
                        "run_id": {"type": "string"},
                        "output": _ref("Output"),
                        "usage": {
                            "type": "object",
                            "properties": {
                                name: {"type": "integer"}
                                for name in ("input_tokens", "output_tokens", "total_tokens", "requests")
                            },
                        },
                        "cost_usd": {
                            "type": ["string", "null"],
                            "description": "USD, a decimal; null: no known price.",
                        },
                        "model": {"type": "string"},
                    },
                },
                "Problem": _PROBLEM,
                "Input": _moved(input_schema, to="#/components/schemas/Input"),
                "Output": _moved(output_schema, to="#/components/schemas/Output"),
            }
        },
    }
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _moved(value: Any, *, to: str) -> Any:
    if isinstance(value, dict):
        return {
            key: to + below.removeprefix("#")
            if key in ("$ref", "$dynamicRef") and isinstance(below, str)
            else _moved(below, to=to)
            for key, below in value.items()  # pyright: ignore[reportUnknownVariableType]
        }
    if isinstance(value, list):
        return [_moved(item, to=to) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
