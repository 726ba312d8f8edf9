"""Decides what `/openapi.json` says: this agent's own requests and answers, from its schemas."""

from __future__ import annotations

from typing import Any, Final

from agentservice_api import RuntimeConfig
from agentservice_api.spec import AuthType
from agentservice_runtime.errors import Category
from agentservice_runtime.runlog import RUN_ID_HEADER

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
_CHAT_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_RUN_ID: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "uuid"}}
_CANCELLED: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"run_id": {"type": "string"}, "status": {"enum": ["cancelled", "cancelling"]}},
}
_STATUSES: Final = {
    "400": "The body is no JSON, or too deep",
    "401": "No valid token",
    "408": "The body took too long to arrive",
    "409": "The run was cancelled, or its id or conversation is in use",
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
    problem = {"content": {"application/problem+json": {"schema": _ref("Problem")}}}
    cancelled = {"application/json": {"schema": _CANCELLED}}
    chosen = [{**_RUN_ID, "name": RUN_ID_HEADER, "in": "header", "description": "The id that the run shall have."}]
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
                    "parameters": chosen,
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
                    "parameters": chosen,
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
            "/v1/ag-ui": {
                "post": {
                    "summary": "Run the agent for a front end that speaks AG-UI",
                    "description": "A RunAgentInput in, its events out: docs.ag-ui.com.",
                    "operationId": "agui",
                    "security": security,
                    "parameters": chosen,
                    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                    "responses": {
                        "200": {
                            "description": "The events",
                            "content": {"text/event-stream": {"schema": {"type": "string"}}},
                        },
                        **failures,
                    },
                }
            },
            "/v1/runs/{run_id}": {
                "delete": {
                    "summary": "Cancel a run of the same caller in this pod",
                    "operationId": "cancel",
                    "security": security,
                    "parameters": [{**_RUN_ID, "name": "run_id", "in": "path", "required": True}],
                    "responses": {
                        "200": {"description": "The run has ended", "content": cancelled},
                        "202": {"description": "The run is about to end", "content": cancelled},
                        "404": {"description": "No such run of this caller is under way in this pod", **problem},
                        **{status: failures[status] for status in ("401", "422") if status in failures},
                    },
                }
            },
            **_a2a_paths(security=security),
            **_chat_paths(config.name, failures=failures, security=security),
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
                "ChatError": _CHAT_ERROR,
                "Input": _moved(input_schema, to="#/components/schemas/Input"),
                "Output": _moved(output_schema, to="#/components/schemas/Output"),
            }
        },
    }
    if config.cache is not None:
        _add_cache(document, security=security, failures=failures)
    if config.conversations is not None:
        _add_conversations(document, security=security, failures=failures)
    if config.queue is not None:
        # what it tells of imports the Redis client
        from agentservice_runtime.tasks.openapi import add_tasks

        add_tasks(document, security=security, failures=failures)
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _a2a_paths(*, security: list[dict[str, list[str]]]) -> dict[str, dict[str, Any]]:
    """Return what other agents use. The documents are the protocol's."""
    done: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    streamed: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
    request = {
        "type": "object",
        "required": ["jsonrpc", "method"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "integer", "null"]},
            "method": {"enum": ["SendMessage", "SendStreamingMessage", "GetTask", "CancelTask"]},
            "params": {
                "type": "object",
                "description": "A part of message.parts holds the Input: a text, or else data or its JSON.",
            },
        },
    }
    return {
        "/v1/a2a": {
            "post": {
                "summary": "Run the agent for another agent that speaks A2A 1.0",
                "description": "JSON-RPC 2.0, errors too: a2a-protocol.org.",
                "operationId": "a2a",
                "security": security,
                "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
                "responses": {
                    "200": {"description": "The response, or the stream of responses", "content": {**done, **streamed}},
                    **({"401": {"description": "No valid token", "content": done}} if security else {}),
                },
            }
        },
        "/.well-known/agent-card.json": {
            "get": {
                "summary": "This agent as other agents find it",
                "operationId": "card",
                "responses": {"200": {"description": "The card", "content": done}},
            }
        },
    }


def _chat_paths(
    name: str, *, failures: dict[str, Any], security: list[dict[str, list[str]]]
) -> dict[str, dict[str, Any]]:
    """Return what OpenAI's clients use. The documents are OpenAI's, so only what is particular here is said."""
    # a request that does not fit is a 400 there, and 422 says that a budget cannot hold
    texts = {status: answer["description"] for status, answer in failures.items()}
    texts |= {"400": "The request does not fit; `param` names the field", "404": "`model` is not this agent's name"}
    texts["422"] = "The budget cannot hold for what would be sent"
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": _ref("ChatError")}}}
        for status, text in sorted(texts.items())
    }
    request = {
        "type": "object",
        "required": ["model", "messages"],
        "properties": {
            "model": {"const": name},
            "messages": {
                "type": "array",
                "minItems": 1,
                "description": "The last is of the role user and holds the Input: a text, or else its JSON.",
                "items": {
                    "type": "object",
                    "required": ["role", "content"],
                    "properties": {"role": {"enum": ["user", "assistant", "system", "developer"]}, "content": {}},
                },
            },
            "stream": {"type": "boolean", "default": False},
            "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
            "max_completion_tokens": {"type": "integer", "minimum": 1, "description": "Lowers the agent's own cap."},
        },
    }
    done: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    streamed: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
    few = {status: error for status, error in errors.items() if status in ("401", "404")}
    models = {"security": security, "responses": {"200": {"description": "The agent", "content": done}, **few}}
    return {
        "/v1/chat/completions": {
            "post": {
                "summary": "Run the agent for a client that speaks OpenAI's API",
                "operationId": "chat",
                "security": security,
                "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
                "responses": {
                    "200": {"description": "A completion, or its chunks", "content": {**done, **streamed}},
                    **errors,
                },
            }
        },
        "/v1/models": {"get": {"summary": "This agent as OpenAI's clients list it", "operationId": "models", **models}},
        "/v1/models/{model}": {
            "get": {
                "summary": "The same, by its name",
                "operationId": "model",
                "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
                **models,
            }
        },
    }


def _add_cache(
    document: dict[str, Any], *, security: list[dict[str, list[str]]], failures: dict[str, dict[str, Any]]
) -> None:
    told = ("hit", "miss", "bypass")
    answer = document["components"]["schemas"]["Answer"]["properties"]
    answer["cache"] = {"enum": list(told), "description": "What the cache did; a hit has used nothing."}
    header = {
        "description": "What the cache did, where that is known before the answer begins.",
        "schema": {"enum": [word.upper() for word in told]},
    }
    for path in (path for path in document["paths"].values() if "post" in path):
        path["post"]["responses"]["200"]["headers"] = {"X-Cache": header}
    text = {"type": "string", "minLength": 1}
    document["paths"]["/v1/cache"] = {
        "delete": {
            "summary": "Let cached answers no longer count",
            "description": "Those with a tag, those to messages that begin with a prefix, or without a parameter all of this agent.",
            "operationId": "purge",
            "security": security,
            "parameters": [{"name": name, "in": "query", "schema": text} for name in ("tag", "prefix")],
            "responses": {
                "200": {
                    "description": "Done, on all pods",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {"purged": {"enum": ["tag", "prefix", "all"]}},
                            }
                        }
                    },
                },
                **{status: failure for status, failure in failures.items() if status in ("401", "422", "503")},
            },
        }
    }


def _add_conversations(
    document: dict[str, Any], *, security: list[dict[str, list[str]]], failures: dict[str, dict[str, Any]]
) -> None:
    schemas = document["components"]["schemas"]
    name = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@-]*$"}
    chosen = {**name, "description": "Goes on with the caller's conversation of this id, or begins it."}
    schemas["Run"]["properties"]["conversation_id"] = chosen
    schemas["Answer"]["properties"] |= {
        "conversation_id": {"type": "string"},
        "remembered": {
            "type": "boolean",
            "description": "Whether the next turn of the conversation knows of this one.",
        },
    }
    schemas["Conversation"] = {
        "type": "object",
        "properties": {
            "conversation_id": {"type": "string"},
            "messages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"enum": ["user", "assistant"]},
                        "content": {"description": "A text; what a typed agent has answered is of the schema Output."},
                        "run_id": {"type": "string"},
                        "at": {"type": "string", "format": "date-time"},
                    },
                },
            },
        },
    }
    deleted = {
        "type": "object",
        "properties": {"conversation_id": {"type": "string"}, "status": {"const": "deleted"}},
    }
    unknown = {
        "description": "Nothing of this caller is remembered under the id",
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
    common: dict[str, Any] = {
        "security": security,
        "parameters": [{"name": "conversation_id", "in": "path", "required": True, "schema": name}],
    }
    few = {status: failure for status, failure in failures.items() if status in ("401", "422", "503")}
    document["paths"]["/v1/conversations/{conversation_id}"] = {
        "get": {
            "summary": "What was said in a conversation of the same caller",
            "operationId": "conversation",
            **common,
            "responses": {
                "200": {
                    "description": "Its messages, the oldest first",
                    "content": {"application/json": {"schema": _ref("Conversation")}},
                },
                "404": unknown,
                **few,
            },
        },
        "delete": {
            "summary": "Forget a conversation of the same caller",
            "operationId": "forget",
            **common,
            "responses": {
                "200": {"description": "Forgotten", "content": {"application/json": {"schema": deleted}}},
                "404": unknown,
                **few,
            },
        },
    }


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
