"""Decides what `/openapi.json` says of tasks."""

from __future__ import annotations

from typing import Any, Final

from agentservice_runtime.tasks.endpoint import MAX_KEY, MAX_LISTED, MAX_WAIT_SECONDS
from agentservice_runtime.tasks.task import PATH, Reason, Status

_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_TASK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["task_id", "status", "check_url", "attempts", "created_at", "started_at", "finished_at"],
    "properties": {
        "task_id": {"type": "string"},
        "status": {"enum": [str(status) for status in Status]},
        "check_url": {"type": "string", "description": "Its path on this agent."},
        "attempts": {"type": "integer", "description": "How often it was begun."},
        "created_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME,
        "retry_at": {**_TIME, "description": "While it waits for another try: when."},
        "run_id": {"type": "string", "description": "Of the run that ended it."},
        "result": {"$ref": "#/components/schemas/Answer"},
        "problem": {"$ref": "#/components/schemas/Problem"},
        "reason": {"enum": [str(reason) for reason in Reason], "description": "Why one that failed was given up."},
    },
}
_ID: Final = {"name": "task_id", "in": "path", "required": True, "schema": {"type": "string"}}
_LAST_EVENT: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Go on after this event.",
    "schema": {"type": "string"},
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key is the same task, however often it is sent.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}


def add_tasks(
    document: dict[str, Any], *, security: list[dict[str, list[str]]], failures: dict[str, dict[str, Any]]
) -> None:
    """Add the paths of tasks; ``failures`` are the answers of a run that failed, by status."""
    problem = failures["422"]["content"]
    schemas, paths = document["components"]["schemas"], document["paths"]
    schemas["Task"] = _TASK

    def told(text: str) -> dict[str, Any]:
        return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Task"}}}}

    def refused(**more: str) -> dict[str, Any]:
        texts = {"503": "The queue's Redis does not answer", **{status[1:]: text for status, text in more.items()}}
        known = {status: failures[status] for status in ("401", "422") if status in failures}
        return {**known, **{status: {"description": text, "content": problem} for status, text in texts.items()}}

    body_refusals = {status: failures[status] for status in ("400", "408", "413", "415")}
    unknown = "No task of this caller has this id"
    paths[PATH] = {
        "post": {
            "summary": "Take in a task: a run that is answered later",
            "operationId": "submitTask",
            "security": security,
            "parameters": [_KEY],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Run"}}},
            },
            "responses": {"202": told("It is taken in; check_url tells of it"), **body_refusals, **refused()},
        },
        "get": {
            "summary": "The caller's tasks, newest first",
            "operationId": "listTasks",
            "security": security,
            "parameters": [
                _query("status", {"enum": [str(status) for status in Status]}),
                _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": 50}),
                _query("before", {"type": "string", "description": "What the page before calls next."}),
            ],
            "responses": {
                "200": {
                    "description": "A page of them",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "tasks": {"type": "array", "items": {"$ref": "#/components/schemas/Task"}},
                                    "next": {"type": ["string", "null"]},
                                },
                            }
                        }
                    },
                },
                **refused(),
            },
        },
    }
    wait = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "description": "Seconds to wait for its end."}
    paths[f"{PATH}/{{task_id}}"] = {
        "get": {
            "summary": "A task, with its result or its problem once it has ended",
            "operationId": "showTask",
            "security": security,
            "parameters": [_ID, _query("wait", wait)],
            "responses": {"200": told("The task"), **refused(_404=unknown)},
        },
        "delete": {
            "summary": "Cancel a task",
            "operationId": "cancelTask",
            "security": security,
            "parameters": [_ID],
            "responses": {
                "200": told("It is cancelled"),
                "202": told("It is about to end"),
                **refused(_404=unknown, _409="It has ended before"),
            },
        },
    }
    paths[f"{PATH}/{{task_id}}/requeue"] = {
        "post": {
            "summary": "Queue a task that failed again",
            "operationId": "requeueTask",
            "security": security,
            "parameters": [_ID],
            "responses": {"202": told("It is queued"), **refused(_404=unknown, _409="It has not failed")},
        }
    }
    paths[f"{PATH}/{{task_id}}/events"] = {
        "get": {
            "summary": "A task's progress as it comes",
            "description": "Server-sent events with ids: status {status, attempts}, delta and tool as of /v1/stream, and at last one result or "
            "error. With another attempt the text begins anew.",
            "operationId": "followTask",
            "security": security,
            "parameters": [_ID, _LAST_EVENT],
            "responses": {
                "200": {"description": "The events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                "204": {"description": "There are no more"},
                **refused(_404=unknown),
            },
        }
    }


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}
