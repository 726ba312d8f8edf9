"""Decides what a task is to its caller: its states, and the document that tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson

PATH: Final = "/v1/tasks"


class Status(StrEnum):
    """Where a task stands. The last three are ends."""

    QUEUED = "queued"
    """It waits for a worker, or for another try."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It may be queued again."""
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class Reason(StrEnum):
    """Why a task that failed was given up."""

    FAILURE = "failure"
    """Its run failed with what would fail again."""
    ATTEMPTS = "attempts"
    """Its run failed with what may pass, as often as spec.queue.maxAttempts allows."""
    WORKERS = "workers"
    """The processes that worked on it ended, as often as that."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task as Redis has it. Times in ms since the epoch."""

    id: str
    status: Status
    created: int
    started: int | None
    finished: int | None
    attempts: int
    due: int | None
    """When it is tried again, while it waits for that."""
    content: bytes
    """Of an ended one: the answer or the problem, as JSON."""
    reason: str
    run_id: str

    @classmethod
    def of(cls, id: str, values: Sequence[bytes | None]) -> Task:
        """Return the task of the values that the scripts call FIELDS."""
        state, created, started, finished, attempts, due, document, reason, run = values
        return cls(
            id=id,
            status=Status((state or b"").decode()),
            created=int(created or 0),
            started=_number(started),
            finished=_number(finished),
            attempts=int(attempts or 0),
            due=_number(due),
            content=document or b"",
            reason=(reason or b"").decode(),
            run_id=(run or b"").decode(),
        )

    @classmethod
    def queued(cls, id: str, *, now: float) -> Task:
        """Return one that was taken in at ``now``, in seconds since the epoch."""
        return cls(
            id=id, status=Status.QUEUED, created=round(1000 * now), started=None, finished=None, attempts=0, due=None,
            content=b"", reason="", run_id="",
        )  # fmt: skip

    @property
    def check_url(self) -> str:
        """Where it can be asked for, on the agent's own address."""
        return f"{PATH}/{self.id}"

    def document(self) -> dict[str, Any]:
        """Return the JSON members."""
        found: dict[str, Any] = {
            "task_id": self.id,
            "status": str(self.status),
            "check_url": self.check_url,
            "attempts": self.attempts,
            "created_at": _time(self.created),
            "started_at": _time(self.started),
            "finished_at": _time(self.finished),
        }
        if self.due is not None:
            found["retry_at"] = _time(self.due)
        if self.status is Status.SUCCEEDED:
            found["result"] = orjson.loads(self.content)
        elif self.content and self.status.is_end:
            found["problem"] = orjson.loads(self.content)
        if self.reason:
            found["reason"] = self.reason
        if self.run_id:
            found["run_id"] = self.run_id
        return found


def _number(value: bytes | None) -> int | None:
    return int(value) if value else None


def _time(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
