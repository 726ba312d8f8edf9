"""Decides which server-sent events a run becomes: `delta`, `tool`, then one `result` or `error`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
import pydantic_core
from pydantic_ai.messages import (
    FinalResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from agentservice_runtime.errors import Problem
from agentservice_runtime.runner import Answer, Hear

_MIN_STEP: Final = 4
"""Characters."""
_NEXT_STEP: Final = "\n\n"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A server-sent event."""

    name: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """Return the bytes of the event (WHATWG HTML, section 9.2)."""
        return b"event: " + self.name.encode() + b"\ndata: " + orjson.dumps(self.data) + b"\n\n"


Say = Callable[[bytes], Awaitable[None]]


class Telling(Protocol):
    """How one interface words a run that is sent as it comes: the bytes of each thing that there is to say."""

    has_status: bool
    """Whether a failure before anything is said is answered with a status of its own, and not in the stream."""

    def hearing(self, say: Say) -> AbstractAsyncContextManager[Hear]:
        """Say what is heard while the context lasts, which is as long as the run."""
        ...

    def error(self, problem: Problem) -> bytes:
        """Return the end of a run that has failed."""
        ...


class EachEventTelling:
    """A telling for which each event stands by itself."""

    @asynccontextmanager
    async def hearing(self, say: Say) -> AsyncGenerator[Hear]:
        """Say what is heard, at once."""

        async def hear(event: Any) -> None:
            told = self.result(event) if isinstance(event, Answer) else self.event(event)
            if told:
                await say(told)

        yield hear

    def event(self, event: Any) -> bytes | None:
        """Return what pydantic-ai's ``event`` means to a client, None when nothing."""
        raise NotImplementedError

    def result(self, answer: Answer) -> bytes:
        """Return the end of a run that has answered."""
        raise NotImplementedError


class TextSteps:
    """The text of a run as one text: what the model says before it calls a tool stands apart from what it says after."""

    def __init__(self) -> None:
        self._has_begun = False
        self._is_new_step = False

    def text(self, event: Any) -> str:
        """Return what pydantic-ai's ``event`` adds, empty when nothing. Tools and thoughts are not shown."""
        match event:
            case PartStartEvent(index=index, part=part):
                if index == 0:
                    self._is_new_step = self._has_begun
                said = part.content if isinstance(part, TextPart) else ""
            case PartDeltaEvent(delta=TextPartDelta(content_delta=content)):
                said = content
            case _:
                said = ""
        if not said:
            return ""
        apart = _NEXT_STEP if self._is_new_step else ""
        self._has_begun, self._is_new_step = True, False
        return apart + said


class EventTelling(EachEventTelling):
    """The events of `/v1/stream`."""

    has_status = False

    def __init__(self, *, is_text: bool) -> None:
        self._translator = Translator(is_text=is_text)

    def event(self, event: Any) -> bytes | None:
        """Return a `delta` or a `tool`, if that is what ``event`` is."""
        told = self._translator.translate(event)
        return None if told is None else told.encode()

    def result(self, answer: Answer) -> bytes:
        """Return the `result`."""
        return Event(name="result", data=answer.document()).encode()

    def error(self, problem: Problem) -> bytes:
        """Return the `error`."""
        return Event(name="error", data=problem.document()).encode()


class Translator:
    """Turns pydantic-ai's events into ours, one run long.

    Plain text is sent as it comes. A structured answer comes as the arguments of an output tool, or as JSON text; what
    has arrived of it is sent as ``partial``, which need not fit the schema yet.
    """

    def __init__(self, *, is_text: bool) -> None:
        self._is_text = is_text
        self._parts: dict[int, str] = {}
        self._call_ids: dict[int, str] = {}
        self._text_parts: set[int] = set()
        self._final: int | None = None
        self._told = 0

    def translate(self, event: Any) -> Event | None:
        """Return what ``event`` means to a client, None when nothing."""
        match event:
            case PartStartEvent(index=index, part=TextPart(content=content)):
                self._parts[index] = content
                self._text_parts.add(index)
                return self._text(index, content)
            case PartDeltaEvent(index=index, delta=TextPartDelta(content_delta=content)):
                self._parts[index] = self._parts.get(index, "") + content
                return self._text(index, content)
            case PartStartEvent(index=index, part=ToolCallPart() as part):
                self._text_parts.discard(index)
                self._call_ids[index] = part.tool_call_id
                self._parts[index] = _arguments(part.args)
                self._final = None if self._final == index else self._final
                return None
            case PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=delta)):
                self._parts[index] = self._parts.get(index, "") + _arguments(delta)
                return self._partial(index)
            case FinalResultEvent(tool_call_id=call_id):
                self._final = self._index_of(call_id)
                return None if self._final is None else self._partial(self._final)
            case FunctionToolCallEvent(part=part):
                self._new_step()
                return Event(name="tool", data={"name": part.tool_name, "phase": "start"})
            case FunctionToolResultEvent(part=part):
                return Event(name="tool", data={"name": part.tool_name, "phase": "end"})
            case _:
                return None

    def _new_step(self) -> None:
        self._parts.clear()
        self._call_ids.clear()
        self._text_parts.clear()
        self._final = None
        self._told = 0

    def _index_of(self, call_id: str | None) -> int | None:
        if call_id is None:
            return max(self._text_parts, default=None)
        return next((index for index, known in self._call_ids.items() if known == call_id), None)

    def _text(self, index: int, content: str) -> Event | None:
        if self._is_text:
            return Event(name="delta", data={"text": content}) if content else None
        return self._partial(index)

    def _partial(self, index: int) -> Event | None:
        text = self._parts.get(index, "")
        # each partial repeats the ones before it: without a step that grows, a long answer would cost its square
        if self._is_text or index != self._final or len(text) - self._told < max(_MIN_STEP, self._told // 16):
            return None
        try:
            value = pydantic_core.from_json(text, allow_partial="trailing-strings")
        except ValueError:
            return None
        self._told = len(text)
        return Event(name="delta", data={"partial": value})


def _arguments(args: Any) -> str:
    if args is None:
        return ""
    return args if isinstance(args, str) else orjson.dumps(args).decode()
