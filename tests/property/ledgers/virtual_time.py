"""An event loop whose time passes only while everybody waits, so that hours take milliseconds and every run is the same.

Threads would bring chance back: what is handed to one is done at once. Each task knows the process that began it, so that a
process can be killed as a whole.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""The process in which a task runs; empty: the test itself."""


_MOST_STEPS = 20_000
"""Of the loop without time passing: far more than any work that ends."""


class _NobodyWaits(selectors.SelectSelector):
    passed = 0.0
    steps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing that time brings")
        self.steps = self.steps + 1 if timeout <= 0 else 0
        if self.steps > _MOST_STEPS:
            self.steps = 0
            raise AssertionError("somebody works without end and never waits")
        self.passed += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 seconds."""

    def __init__(self) -> None:
        self._nobody_waits = _NobodyWaits()
        super().__init__(self._nobody_waits)
        self._tasks_of: dict[str, set[asyncio.Task[Any]]] = {}
        self.set_task_factory(self._make)

    def time(self) -> float:
        return self._nobody_waits.passed

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def begin(self, owner: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have ``work``, and whatever it begins, done in a process called ``owner``."""
        context = copy_context()
        context.run(OWNER.set, owner)
        return self.create_task(work, context=context)

    async def kill(self, owner: str) -> None:
        """End all that runs in a process. Nothing of it gets a chance to tidy up over several steps of the loop."""
        tasks = [task for task in self._tasks_of.pop(owner, ()) if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def kill_all(self) -> None:
        """End all that runs in any process."""
        for owner in [owner for owner in self._tasks_of if owner]:
            await self.kill(owner)

    def _make(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        owner = context.get(OWNER, "") if context is not None else OWNER.get()
        task = asyncio.Task(work, loop=loop, context=context)
        if owner:
            owned = self._tasks_of.setdefault(owner, set())
            owned.add(task)
            task.add_done_callback(owned.discard)
        return task
