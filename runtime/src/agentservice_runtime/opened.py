"""Decides when the head of a streamed answer is sent where it tells of the cache: once that is known, or after a while without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator


class Opened:
    """The chunks of a stream that begins before its head is sent."""

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self._chunks = chunks
        self._first: asyncio.Task[bytes] | None = None

    async def until(self, known: asyncio.Event, *, seconds: float) -> None:
        """Begin, and wait until ``known``, the first chunk or the end, ``seconds`` at most."""
        self._first = asyncio.create_task(self._next())
        waiting = asyncio.create_task(known.wait())
        try:
            await asyncio.wait({self._first, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def __aiter__(self) -> Opened:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk."""
        if self._first is None:
            return await self._next()
        first, self._first = self._first, None
        return await first

    async def aclose(self) -> None:
        """End the stream, whatever it is doing."""
        first, self._first = self._first, None
        if first is not None:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await self._chunks.aclose()

    async def _next(self) -> bytes:
        return await anext(self._chunks)
