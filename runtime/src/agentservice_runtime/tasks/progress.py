"""Decides which of a run's events are kept as its task's progress, and how often: pieces of a text are joined.

Progress is told as `/v1/stream` tells it, but the result; where Redis cannot be asked, it is lost and the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import orjson

from agentservice_runtime.stream import Event, Translator
from agentservice_runtime.tasks.store import Lease, TaskStore, Unavailable

PAUSE_SECONDS: Final = 0.25
"""Between two steps in Redis for one task."""
_MOST: Final = 200
"""Events that wait; beyond, the oldest are lost."""


class Progress:
    """The progress of one attempt. `hear` is told of pydantic-ai's events."""

    def __init__(self, store: TaskStore, *, lease: Lease, is_text: bool) -> None:
        self._store = store
        self._lease = lease
        self._translator = Translator(is_text=is_text)
        self._events: list[Event] = []
        self._ended = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def hear(self, event: Any) -> None:
        """Keep what ``event`` means, if it means something."""
        told = self._translator.translate(event)
        if told is None:
            return
        last = self._events[-1] if self._events else None
        if last is not None and last.name == told.name == "delta":
            # of a structured answer each piece repeats those before
            text = last.data["text"] + told.data["text"] if "text" in told.data else None
            self._events[-1] = told if text is None else Event(name="delta", data={"text": text})
        else:
            self._events = [*self._events[-_MOST:], told]
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def end(self) -> None:
        """Tell what is left. Never raises."""
        self._ended.set()
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        while self._events:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._ended.wait()
            events, self._events = self._events, []
            with contextlib.suppress(Unavailable):
                await self._store.note(self._lease, [(event.name, orjson.dumps(event.data)) for event in events])
