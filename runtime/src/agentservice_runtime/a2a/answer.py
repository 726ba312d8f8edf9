"""Decides how a run reads in A2A: a message, or a task whose artifact grows while it is streamed, or an error.

An error's code is the protocol's; its `data` holds a google.rpc.ErrorInfo (A2A 1.0, section 9.5) with what a problem document says.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from agentservice_runtime.a2a.request import DATA, Code
from agentservice_runtime.errors import Category, Problem
from agentservice_runtime.runner import Answer
from agentservice_runtime.stream import EachEventTelling, TextSteps
from agentservice_runtime.tasks.task import Status
from agentservice_runtime.tasks.task import Task as QueuedTask

RpcId = str | int | float | None
_ARTIFACT: Final = "answer"
_NOT_ABOUT: Final = frozenset({"output", "conversation_id"})
_DOMAIN: Final = "agentservice.dev"


def result(rpc_id: RpcId, content: dict[str, Any]) -> dict[str, Any]:
    """Return the response that holds ``content``."""
    return {"jsonrpc": "2.0", "id": rpc_id, "result": content}


def error(rpc_id: RpcId, code: int, message: str, *, data: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the response of a request that is refused or has failed."""
    told = {"code": int(code), "message": message, **({} if data is None else {"data": data})}
    return {"jsonrpc": "2.0", "id": rpc_id, "error": told}


def problem_error(rpc_id: RpcId, problem: Problem) -> dict[str, Any]:
    """Return the response that says ``problem``."""
    return error(rpc_id, _code(problem), problem.detail, data=[_error_info(problem)])


def message(answer: Answer, *, context_id: str) -> dict[str, Any]:
    """Return the agent's message."""
    return {
        "messageId": str(uuid.uuid4()),
        "contextId": context_id,
        "role": "ROLE_AGENT",
        "parts": [_part(answer.output)],
        "metadata": _about(answer),
    }


def status(state: str, *, said: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a task's status now. ``state`` is without its prefix; ``said`` is a message about it."""
    known = {"state": f"TASK_STATE_{state}", "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
    return known if said is None else {**known, "message": said}


def task(task_id: str, *, context_id: str, state: str) -> dict[str, Any]:
    """Return a task in ``state``."""
    return {"id": task_id, "contextId": context_id, "status": status(state)}


_STATES: Final = {
    Status.QUEUED: "SUBMITTED",
    Status.RUNNING: "WORKING",
    Status.SUCCEEDED: "COMPLETED",
    Status.FAILED: "FAILED",
    Status.CANCELLED: "CANCELED",
}


def queued(known: QueuedTask, *, context_id: str | None = None) -> dict[str, Any]:
    """Return a task of the queue. Its context is known where it is new, or a conversation that is remembered."""
    document = known.document()
    answer: dict[str, Any] | None = document.get("result")
    problem: dict[str, Any] | None = document.get("problem")
    if context_id is None and answer is not None:
        context_id = answer.get("conversation_id")
    said = None if problem is None else _said_of(problem, task_id=known.id, context_id=context_id)
    found: dict[str, Any] = {"id": known.id, "status": status(_STATES[known.status], said=said)}
    if context_id is not None:
        found["contextId"] = context_id
    if answer is not None:
        found["artifacts"] = [{"artifactId": _ARTIFACT, "parts": [_part(answer["output"])]}]
        found["metadata"] = {name: value for name, value in answer.items() if name not in _NOT_ABOUT}
    return found


def _said_of(problem: dict[str, Any], *, task_id: str, context_id: str | None) -> dict[str, Any]:
    """Return the message about a task that has failed."""
    return {
        "messageId": str(uuid.uuid4()),
        **({} if context_id is None else {"contextId": context_id}),
        "taskId": task_id,
        "role": "ROLE_AGENT",
        "parts": [{"text": problem["detail"]}],
        "metadata": {"problem": problem},
    }


class A2aTelling(EachEventTelling):
    """A run as it is streamed: the task, its artifact piece by piece, and how it ended."""

    has_status = True

    def __init__(self, *, rpc_id: RpcId, task_id: str, context_id: str, is_text: bool) -> None:
        self._rpc_id = rpc_id
        self._task_id = task_id
        self._context_id = context_id
        self._steps = TextSteps() if is_text else None
        self._has_begun = False
        self._has_artifact = False

    def event(self, event: Any) -> bytes:
        """Return the text in ``event``; the task is told of with the first one."""
        text = "" if self._steps is None else self._steps.text(event)
        return self._begun() + (self._artifact({"text": text}) if text else b"")

    def result(self, answer: Answer) -> bytes:
        """Return what is still to be said, and the end."""
        rest = b"" if self._has_artifact else self._artifact(_part(answer.output))
        update = {**self._of_task(), "status": status("COMPLETED"), "metadata": _about(answer)}
        return self._begun() + rest + self._line({"statusUpdate": update})

    def error(self, problem: Problem) -> bytes:
        """Return the end of a run that has failed: of the task where there is one, else of the request."""
        if not self._has_begun:
            return _event(problem_error(self._rpc_id, problem))
        said = _said_of(problem.document(), task_id=self._task_id, context_id=self._context_id)
        state = "CANCELED" if problem.category is Category.CANCELLED else "FAILED"
        return self._line({"statusUpdate": {**self._of_task(), "status": status(state, said=said)}})

    def _begun(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._line({"task": task(self._task_id, context_id=self._context_id, state="WORKING")})

    def _artifact(self, part: dict[str, Any]) -> bytes:
        is_first, self._has_artifact = not self._has_artifact, True
        artifact = {"artifactId": _ARTIFACT, "parts": [part]}
        return self._line({"artifactUpdate": {**self._of_task(), "artifact": artifact, "append": not is_first}})

    def _of_task(self) -> dict[str, Any]:
        return {"taskId": self._task_id, "contextId": self._context_id}

    def _line(self, content: dict[str, Any]) -> bytes:
        return _event(result(self._rpc_id, content))


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _part(output: Any) -> dict[str, Any]:
    return {"text": output} if isinstance(output, str) else {"data": output, "mediaType": DATA}


def _about(answer: Answer) -> dict[str, Any]:
    """Return what an answer tells beside its output."""
    return {name: value for name, value in answer.document().items() if name not in _NOT_ABOUT}


def _code(problem: Problem) -> Code:
    match problem.status:
        case 400:
            return Code.PARSE
        case 401 | 408 | 413 | 415:
            return Code.INVALID_REQUEST
        case 422 if [field.path for field in problem.errors] == ["body"]:
            return Code.INVALID_REQUEST
        case 422 if problem.category is Category.VALIDATION:
            return Code.INVALID_PARAMS
        case _:
            return Code.INTERNAL


def _error_info(problem: Problem) -> dict[str, Any]:
    document = problem.document()
    told = {name: document[name] for name in ("title", "status", "category", "retryable", "retry_after", "run_id")}
    known = {name: _text(value) for name, value in told.items() if value is not None}
    known |= {f"errors.{field.path}": field.message for field in problem.errors}
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": problem.category.upper(),
        "domain": _DOMAIN,
        "metadata": known,
    }


def _text(value: object) -> str:
    """Return the value as ErrorInfo has it, whose metadata are texts."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
