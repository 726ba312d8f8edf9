"""Decides how a run is asked for and told in AG-UI, the protocol of agents' user interfaces.

pydantic-ai's adapter words the events. Withheld is what a caller is told nowhere else: what tools are given and answer,
what the model thinks, and the words of what failed. What a client says that tools have answered earlier is not believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, cast

from ag_ui.core import BaseEvent, EventType, RunAgentInput, RunErrorEvent, RunFinishedEvent
from pydantic import ValidationError
from pydantic_ai import RunCancelled
from pydantic_ai.ui.ag_ui import AGUIEventStream

from agentservice_runtime.conversation import Conversation, Said
from agentservice_runtime.errors import FieldError, Problem
from agentservice_runtime.runner import Answer, Hear, Question, invalid
from agentservice_runtime.stream import Say

_TOLD: Final = frozenset(
    {
        EventType.RUN_STARTED,
        EventType.RUN_FINISHED,
        EventType.TEXT_MESSAGE_START,
        EventType.TEXT_MESSAGE_CONTENT,
        EventType.TEXT_MESSAGE_END,
        EventType.TOOL_CALL_START,
        EventType.TOOL_CALL_END,
        # these come only from an agent's own code, which means them for the user interface
        EventType.STATE_SNAPSHOT,
        EventType.STATE_DELTA,
        EventType.CUSTOM,
    }
)
_SPOKEN: Final = frozenset({"user", "assistant", "system", "developer"})
_MAX_ERRORS: Final = 10
_OVER: Final = object()


def read(body: dict[str, Any], conversation: Conversation) -> tuple[RunAgentInput, Question]:
    """Return the input in ``body`` and what it asks. Raises ServiceError (422) that names the fields."""
    try:
        given = RunAgentInput.model_validate(body)
    except ValidationError as error:
        raise invalid(tuple(_errors(error))) from None
    for name in ("tools", "resume"):
        if getattr(given, name):
            raise invalid((FieldError(path=name, message="is not supported: the agent has its own tools"),))
    said = [
        Said(role=message.role, text=_text(message.content, path=path), path=path)
        for index, message in enumerate(given.messages)
        if message.role in _SPOKEN and message.content
        for path in (f"messages[{index}].content",)
    ]
    if not said or said[-1].role != "user":
        raise invalid((FieldError(path="messages", message="must end with the question, of the role user"),))
    return given, conversation.question(said)


class AgUiTelling:
    """The events of one run."""

    has_status = False

    def __init__(self, given: RunAgentInput) -> None:
        self._stream = _Events(given)

    @asynccontextmanager
    async def hearing(self, say: Say) -> AsyncGenerator[Hear]:
        """Say what of the events is told. The adapter asks for events by itself, so they wait for it."""
        heard: asyncio.Queue[Any] = asyncio.Queue()
        telling = asyncio.create_task(self._tell(_until_over(heard), say))

        async def hear(event: Any) -> None:
            heard.put_nowait(event)

        try:
            yield hear
            heard.put_nowait(_OVER)
            await telling
        except Exception as error:
            # what it has opened, it closes
            heard.put_nowait(error)
            await asyncio.gather(telling, return_exceptions=True)
            raise
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self, events: AsyncGenerator[Any], say: Say) -> None:
        """Say what of ``events`` is told. A structured answer is the `result` at the end."""
        result: Any = None

        async def heard() -> AsyncIterator[Any]:
            nonlocal result
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Answer):
                        result = None if isinstance(event.output, str) else event.output
                    else:
                        yield event

        async with aclosing(cast("AsyncGenerator[BaseEvent]", self._stream.transform_stream(heard()))) as told:
            async for event in told:
                if isinstance(event, RunFinishedEvent):
                    event.result = result
                if event.type in _TOLD:
                    await say(self._stream.encode_event(event).encode())

    def error(self, problem: Problem) -> bytes:
        """Return the end of a run that has failed, with the whole problem as its `rawEvent`."""
        event = RunErrorEvent(message=problem.detail, code=str(problem.category), raw_event=problem.document())
        return self._stream.encode_event(event).encode()


class _Events(AGUIEventStream[Any, Any]):
    """The adapter's events, without those that end a failed run: they quote the failure."""

    async def on_error(self, error: Exception) -> AsyncIterator[BaseEvent]:
        raise error
        yield

    async def on_cancelled(self, cancelled: RunCancelled) -> AsyncIterator[BaseEvent]:
        raise cancelled
        yield


async def _until_over(heard: asyncio.Queue[Any]) -> AsyncGenerator[Any]:
    """Yield what is put in, and raise it where it is a failure."""
    while (event := await heard.get()) is not _OVER:
        if isinstance(event, Exception):
            raise event
        yield event


def _text(content: Any, *, path: str) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Any]", content)
    if any(part.type != "text" for part in parts):
        raise invalid((FieldError(path=path, message="must be a text, or a list of parts of the type text"),))
    return "".join(part.text for part in parts)


def _errors(error: ValidationError) -> list[FieldError]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        FieldError(path=".".join(str(part) for part in each["loc"])[:100] or "body", message=each["msg"][:200])
        for each in found[:_MAX_ERRORS]
    ]
