"""Decides what a JSON-RPC request of A2A asks, and with which of the protocol's errors it is refused.

Members that the protocol has and this agent has no use for are ignored, as its rule for what is newer than the reader asks; refused is what a
client would rely on: files, pushed notifications, further messages to a task.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, cast

import orjson

from agentservice_runtime.conversation import Conversation, Said
from agentservice_runtime.errors import FieldError
from agentservice_runtime.memory.memory import conversation_id
from agentservice_runtime.runner import InputReader, Question, invalid

TEXT: Final = "text/plain"
DATA: Final = "application/json"


class Code(IntEnum):
    """The errors of JSON-RPC 2.0 and of A2A 1.0 (section 9.5) that are answered here."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    TASK_NOT_FOUND = -32001
    TASK_NOT_CANCELABLE = -32002
    PUSH_NOT_SUPPORTED = -32003
    UNSUPPORTED = -32004
    CONTENT_TYPE = -32005
    NO_EXTENDED_CARD = -32007
    VERSION = -32009


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A request that is refused with ``code``."""

    code: Code
    message: str


@dataclass(frozen=True, kw_only=True)
class Send:
    """A message to the agent."""

    question: Question
    given: Any
    """The agent's input."""
    message_id: str
    context_id: str
    is_stream: bool
    is_immediate: bool
    """Whether the client does not wait for the answer, but asks for the task again."""


@dataclass(frozen=True, kw_only=True)
class OfTask:
    """What is asked of a task: its state, or its end."""

    task_id: str
    is_cancel: bool


Asked = Send | OfTask | Refusal

_OLD: Final = frozenset({"message/send", "message/stream", "tasks/get", "tasks/cancel", "tasks/resubscribe"})
_REFUSED: Final = {
    "SubscribeToTask": Refusal(code=Code.UNSUPPORTED, message="A task's stream is that of the request that began it."),
    "ListTasks": Refusal(code=Code.UNSUPPORTED, message="Tasks are not listed."),
    "GetExtendedAgentCard": Refusal(code=Code.NO_EXTENDED_CARD, message="There is no card but the public one."),
    **{
        f"{verb}TaskPushNotificationConfig{'s' * (verb == 'List')}": Refusal(
            code=Code.PUSH_NOT_SUPPORTED, message="Notifications are not pushed: stream, or ask for the task."
        )
        for verb in ("Create", "Get", "List", "Delete")
    },
}


class A2aReader:
    """Reads the requests to one agent."""

    def __init__(self, reader: InputReader, *, conversation: Conversation, has_memory: bool) -> None:
        """``has_memory`` tells whether a context is remembered."""
        self._reader = reader
        self._conversation = conversation
        self._has_memory = has_memory

    def read(self, body: dict[str, Any], *, version: str) -> Asked:
        """Return what ``body`` asks. ``version`` is that of the header. Raises ServiceError (422) that names the field."""
        method = body.get("method")
        if body.get("jsonrpc") != "2.0" or not isinstance(method, str):
            return Refusal(code=Code.INVALID_REQUEST, message="A request has jsonrpc '2.0' and a method.")
        if method in _OLD or version.split(".")[:2] not in ([""], ["1", "0"], ["1"]):
            return Refusal(code=Code.VERSION, message="This agent speaks A2A 1.0.")
        params = body.get("params", {})
        if not isinstance(params, dict):
            raise invalid((FieldError(path="params", message="must be an object"),))
        given = cast("dict[str, Any]", params)
        match method:
            case "SendMessage" | "SendStreamingMessage":
                return self._send(given, is_stream=method == "SendStreamingMessage")
            case "GetTask" | "CancelTask":
                task_id = given.get("id")
                if not isinstance(task_id, str) or not task_id:
                    raise invalid((FieldError(path="params.id", message="must be the id of a task"),))
                return OfTask(task_id=task_id, is_cancel=method == "CancelTask")
            case _:
                unknown = Refusal(code=Code.METHOD_NOT_FOUND, message="A2A 1.0 has no such method.")
                return _REFUSED.get(method, unknown)

    def _send(self, params: dict[str, Any], *, is_stream: bool) -> Send | Refusal:
        message = params.get("message")
        if not isinstance(message, dict):
            raise invalid((FieldError(path="params.message", message="must be a message"),))
        given = cast("dict[str, Any]", message)
        if given.get("role") != "ROLE_USER":
            raise invalid((FieldError(path="params.message.role", message="must be ROLE_USER"),))
        if given.get("taskId"):
            return Refusal(code=Code.UNSUPPORTED, message="A task takes no further messages: send one without taskId.")
        options = params.get("configuration")
        wanted = cast("dict[str, Any]", options) if isinstance(options, dict) else {}
        if wanted.get("taskPushNotificationConfig"):
            return _REFUSED["CreateTaskPushNotificationConfig"]
        is_immediate = wanted.get("returnImmediately") is True
        message_id = str(given.get("messageId") or "")
        context = given.get("contextId") or _new_context(message_id if is_immediate else "")
        name = conversation_id(context, path="params.message.contextId")
        asked = self._asked(given.get("parts"))
        if isinstance(asked, Refusal):
            return asked
        value, prompt = asked
        return Send(
            question=Question(prompt=prompt, conversation_id=name if self._has_memory else None),
            given=value,
            message_id=message_id,
            context_id=name,
            is_stream=is_stream,
            is_immediate=is_immediate,
        )

    def _asked(self, parts: Any) -> tuple[Any, str] | Refusal:
        """Return the input in ``parts``, and the message to the model that it makes."""
        path = "params.message.parts"
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in cast("list[Any]", parts)):
            raise invalid((FieldError(path=path, message="must be a list of parts"),))
        known = cast("list[dict[str, Any]]", parts)
        if any(not isinstance(part.get("text"), str) and "data" not in part for part in known):
            return Refusal(code=Code.CONTENT_TYPE, message="Parts are texts or data here, and no files.")
        data = [part["data"] for part in known if "data" in part]
        if data and (not self._reader.is_typed or len(known) > 1):
            told = "One part of data is the whole input." if self._reader.is_typed else "This agent takes text."
            return Refusal(code=Code.CONTENT_TYPE, message=told)
        if data:
            value = _whole(data[0])
            return value, self._reader.prompt(value)
        text = "".join(part["text"] for part in known)
        prompt = self._conversation.question([Said(role="user", text=text, path=path)]).prompt
        return (orjson.loads(text) if self._reader.is_typed else text), prompt


def _new_context(message_id: str) -> str:
    """Return a context for a message without one: the same when one that makes a task is sent again, for that is the same task."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, message_id) if message_id else uuid.uuid4())


def _whole(value: Any) -> Any:
    """Return the value with its integers: protobuf's Value, in which the protocol's SDKs carry data, knows no others than 7.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(below) for key, below in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_whole(below) for below in cast("list[Any]", value)]
    return value
