"""Decides when the head of a streamed answer is sent, and what a client hears of a run that is silent.

The run itself sends what it has to say: no task stands between it and the client, who hears each word a turn of the loop sooner for it. A
client that reads slowly holds the run up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from agentservice_runtime.client import Send

KEEPALIVE_SECONDS: Final = 15.0
"""A comment is sent when nothing else was for so long: proxies close what is silent."""
KEEPALIVE: Final = b": keep-alive\n\n"


class Outlet:
    """The body of one answer. It belongs to one loop; `close` it, whatever happens."""

    def __init__(
        self,
        send: Send,
        *,
        head: Callable[[], MutableMapping[str, Any]],
        keepalive_seconds: float = KEEPALIVE_SECONDS,
    ) -> None:
        """``head`` makes the message that begins the answer, which is sent before the first word if not sooner."""
        self._send = send
        self._head = head
        self._keepalive_seconds = keepalive_seconds
        self._loop = asyncio.get_running_loop()
        self._said = self._loop.time()
        self._turn = asyncio.Lock()
        self._alarm: asyncio.TimerHandle | None = None
        self._behind: set[asyncio.Task[None]] = set()
        self.has_begun = False

    async def begin(self) -> None:
        """Send the head, if it was not."""
        async with self._turn:
            if not self.has_begun:
                await self._begin()

    def begin_soon(self) -> None:
        """Send the head, if it was not, while the caller goes on."""
        if not self.has_begun:
            self._do(self.begin())

    def begin_within(self, seconds: float) -> None:
        """Send the head after so long, if it was not sent until then. The latest call counts."""
        if self.has_begun:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, self.begin_soon)

    async def say(self, chunk: bytes) -> None:
        """Send a piece of the body; return once the client's side has room for more."""
        async with self._turn:
            if not self.has_begun:
                await self._begin()
            self._said = self._loop.time()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        """Send the last piece."""
        async with self._turn:
            if not self.has_begun:
                await self._begin()
            await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def close(self) -> None:
        """Say no more. Never raises."""
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._behind:
            task.cancel()
        if self._behind:
            await asyncio.gather(*self._behind, return_exceptions=True)

    async def _begin(self) -> None:
        self.has_begun = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(self._keepalive_seconds, self._break_silence)
        await self._send(self._head())

    def _break_silence(self) -> None:
        left = self._said + self._keepalive_seconds - self._loop.time()
        # where something is being sent, the client has not read what it was sent before
        if left <= 0 and not self._turn.locked():
            self._do(self.say(KEEPALIVE))
        self._alarm = self._loop.call_later(left if left > 0 else self._keepalive_seconds, self._break_silence)

    def _do(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
