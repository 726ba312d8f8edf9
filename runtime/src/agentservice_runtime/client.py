"""Decides what happens when a client hangs up: its run is stopped, for nobody will read the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from agentservice_runtime.errors import ClientGone

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")


async def while_connected(work: Coroutine[Any, Any, T], *, receive: Receive) -> T:
    """Return what ``work`` returns. Raises ClientGone, after ``work`` is cancelled, when the client hangs up first.

    The request's body must have been read: afterwards ``receive`` tells nothing but the disconnect.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for each in (task, watcher):
            each.cancel()
        # the work must have ended before its slot is given back
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
