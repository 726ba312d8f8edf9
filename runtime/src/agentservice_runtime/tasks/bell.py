"""Decides when who waits for a task looks again: when Redis says that something happened to it, and now and then anyway.

One connection hears of all tasks, and only while somebody waits. Nothing depends on it but how soon.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, cast

from redis.asyncio import Redis

from agentservice_runtime.redis_scripts import FAILURES

DEAF_SECONDS: Final = 2.0
"""So long nobody waits without a look: what is said while nobody listens is lost."""
_AGAIN_SECONDS: Final = 1.0
"""Until the connection is tried again."""


class Bell:
    """What is said on the channel of one queue. It belongs to one loop."""

    def __init__(self, url: Callable[[], str | None], *, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listening: asyncio.Task[None] | None = None

    @contextmanager
    def heard(self, id: str) -> Generator[asyncio.Event]:
        """Return what is set whenever something happens to a task; who has looked clears it."""
        event = asyncio.Event()
        self._waiting.setdefault(id, set()).add(event)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="tasks-bell")
        try:
            yield event
        finally:
            waiting = self._waiting[id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[id]

    async def close(self) -> None:
        """Stop listening. Never raises."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        while self._waiting:
            with contextlib.suppress(*FAILURES):
                client = Redis.from_url(
                    self._url() or "", client_name="agentservice", socket_keepalive=True, protocol=2
                )
                try:
                    await self._hear(client)
                finally:
                    await client.aclose()
            if self._waiting:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _hear(self, client: Redis) -> None:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(self._channel)  # pyright: ignore[reportUnknownMemberType]
        self._ring(None)  # what was said until now went unheard
        while self._waiting:
            said = cast("dict[str, Any] | None", await pubsub.get_message(timeout=DEAF_SECONDS))
            if said is not None:
                self._ring(said["data"].decode())

    def _ring(self, id: str | None) -> None:
        for known in list(self._waiting) if id is None else [id]:
            for event in self._waiting.get(known, ()):
                event.set()


async def rung(event: asyncio.Event, *, seconds: float) -> None:
    """Wait until it rings, ``seconds`` at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, min(seconds, DEAF_SECONDS))):
            await event.wait()
    event.clear()
