"""Decides which runs may be cancelled by whom: those under way in this process, each by its own caller."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agentservice_runtime.errors import Category, FieldError, Problem, ServiceError
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.runner import invalid

STOP_SECONDS: Final = 10.0
"""How long whoever cancels a run waits for its end. Only code that holds on to its cancellation takes longer."""
_REMEMBERED: Final = 1_000
"""Cancelled runs that are known when they are cancelled once more."""

IN_USE: Final = Problem(
    status=409,
    title="Run id in use",
    detail="A run of yours with this id is under way: give each run an id of its own.",
    category=Category.VALIDATION,
)
UNKNOWN: Final = Problem(
    status=404,
    title="No such run",
    detail="No run of yours with this id is under way in this pod. It has ended, or runs in another pod of the agent: each "
    "request reaches one of them. Closing the connection of a run cancels it wherever it is.",
    category=Category.VALIDATION,
)


@dataclass(kw_only=True)
class _Run:
    record: RunRecord
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ActiveRuns:
    """The runs of one process. ``stop_seconds`` is how long `cancel` waits for the end of one."""

    def __init__(self, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._stop_seconds = stop_seconds
        self._runs: dict[tuple[str | None, str], _Run] = {}
        self._cancelled: OrderedDict[tuple[str | None, str], None] = OrderedDict()

    @contextmanager
    def entered(self, record: RunRecord) -> Generator[None]:
        """Let the run be cancelled until it ends. Raises ServiceError (409) when its caller has another of its id."""
        key = (record.caller, record.run_id)
        if key in self._runs:
            raise ServiceError(IN_USE)
        run = self._runs[key] = _Run(record=record)
        try:
            yield
        finally:
            del self._runs[key]
            if record.cancellation.cancelled and not record.has_answered:
                self._cancelled[key] = None
                if len(self._cancelled) > _REMEMBERED:
                    self._cancelled.popitem(last=False)
            run.ended.set()

    def is_under_way(self, run_id: str, *, caller: str | None) -> bool:
        """Tell whether the caller has a run with this id."""
        return (caller, run_id) in self._runs

    async def cancel(self, run_id: str, *, caller: str | None) -> bool:
        """Cancel a run and return whether it has ended. Raises ServiceError (404), also when the run was faster.

        A run that was cancelled before is told to have ended.
        """
        key = (caller, run_id)
        run = self._runs.get(key)
        if run is not None:
            run.record.cancellation.cancel()
            try:
                async with asyncio.timeout(self._stop_seconds):
                    await run.ended.wait()
            except TimeoutError:
                return False
        if key not in self._cancelled:
            raise ServiceError(UNKNOWN)
        return True


def chosen_id(value: str) -> str:
    """Return the run id that a caller has chosen. Raises ServiceError (422)."""
    try:
        return uuid.UUID(value).hex
    except ValueError:
        raise invalid((FieldError(path="X-Run-Id", message="must be a UUID"),)) from None
