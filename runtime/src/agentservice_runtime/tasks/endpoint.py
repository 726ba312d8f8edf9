"""Decides what `/v1/tasks` answers. A task is its caller's alone: to everybody else there is none of that id."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson
from starlette.datastructures import QueryParams

from agentservice_runtime.errors import ServiceError, unprocessable
from agentservice_runtime.outlet import KEEPALIVE, KEEPALIVE_SECONDS
from agentservice_runtime.runlog import RunRecord, new_run_id
from agentservice_runtime.tasks import problems
from agentservice_runtime.tasks.asking import Asker, owner_of
from agentservice_runtime.tasks.bell import rung
from agentservice_runtime.tasks.queue import Tasks
from agentservice_runtime.tasks.store import Heard, Unavailable, Word, owner_key
from agentservice_runtime.tasks.task import Status, Task

MAX_WAIT_SECONDS: Final = 60.0
"""Of `?wait=`: shorter than the patience of usual proxies."""
MAX_LISTED: Final = 100
MAX_KEY: Final = 255
"""Characters of an Idempotency-Key."""
CANCEL_SECONDS: Final = 5.0
"""How long who cancels a task waits for its end."""
_DRAIN_LOOK_SECONDS: Final = 0.5
_FIRST: Final = "0-0"
"""Before the first event."""


@dataclass(frozen=True, kw_only=True)
class TaskEndpoint:
    """Answers `/v1/tasks`. Each method raises ServiceError."""

    tasks: Tasks

    async def submit(self, record: RunRecord, body: dict[str, Any], *, key: str | None) -> Task:
        """Take in a task that asks what ``body`` does, or find the one that was taken in with the same key."""
        queue = self.tasks
        owner = _owner(record)
        id = new_run_id() if key is None else _id_of(owner, key)
        try:
            word = await queue.store.submit(
                id,
                owner=owner,
                asker=Asker.of(record).encode(),
                content=orjson.dumps(body, option=orjson.OPT_SORT_KEYS),
            )
            if word is Word.OTHER:
                raise ServiceError(problems.OTHER)
            if word is Word.NEW:
                queue.metrics.submitted()
                return Task.queued(id, now=time.time())
            task = await queue.store.show(id, owner=owner)
        except Unavailable:
            _unavailable()
        return _known(task)

    async def show(self, record: RunRecord, id: str, query: QueryParams) -> Task:
        """Return a task, once it has ended or as it is after `wait` seconds."""
        queue = self.tasks
        seconds = _wait_of(query)
        try:
            return await self._ended(queue, id, owner=_owner(record), seconds=seconds)
        except Unavailable:
            _unavailable()

    async def listed(self, record: RunRecord, query: QueryParams) -> dict[str, Any]:
        """Return tasks of the caller, newest first."""
        queue = self.tasks
        status, count, before = _page_of(query)
        try:
            found, following = await queue.store.listed(
                owner=_owner(record), dead=status is Status.FAILED, before=before, count=count
            )
        except Unavailable:
            _unavailable()
        shown = [task.document() for task in found if status is None or task.status is status]
        return {"tasks": shown, "next": None if following is None else str(following)}

    async def cancel(self, record: RunRecord, id: str) -> Task:
        """Cancel a task and return it, as ended if that took no longer than CANCEL_SECONDS."""
        queue, owner = self.tasks, _owner(record)
        try:
            word = await queue.store.cancel(id, owner=owner)
            if word is Word.UNKNOWN:
                raise ServiceError(problems.UNKNOWN)
            if word is Word.ENDED:
                raise ServiceError(problems.ENDED)
            return await self._ended(queue, id, owner=owner, seconds=CANCEL_SECONDS)
        except Unavailable:
            _unavailable()

    async def requeue(self, record: RunRecord, id: str) -> Task:
        """Queue a failed task again."""
        queue, owner = self.tasks, _owner(record)
        try:
            word = await queue.store.requeue(id, owner=owner)
            if word is Word.UNKNOWN:
                raise ServiceError(problems.UNKNOWN)
            if word is Word.NOT_FAILED:
                raise ServiceError(problems.NOT_FAILED)
            return _known(await queue.store.show(id, owner=owner))
        except Unavailable:
            _unavailable()

    async def events(self, record: RunRecord, id: str, *, after: str | None) -> AsyncGenerator[bytes] | None:
        """Return a task's progress since the event ``after``, up to its end; None when there is no more."""
        queue, owner = self.tasks, _owner(record)
        place = _place_of(after)
        try:
            heard = await queue.store.heard(id, owner=owner, after=place)
        except Unavailable:
            _unavailable()
        if heard is None:
            raise ServiceError(problems.UNKNOWN)
        if after is not None and heard.status.is_end and not heard.events:
            return None
        return self._told(queue, id, owner=owner, heard=heard, place=place)

    async def _told(
        self, queue: Tasks, id: str, *, owner: str, heard: Heard | None, place: str
    ) -> AsyncGenerator[bytes]:
        said = time.monotonic()
        with queue.bell.heard(id) as bell:
            while True:
                has_ended = False
                for event in heard.events if heard is not None else ():
                    place, said = event.place, time.monotonic()
                    has_ended = event.name in ("result", "error")
                    yield _encoded(event.name, event.data, place=event.place)
                if has_ended or queue.drain.is_draining:
                    return  # who asks again for what follows finds it in another pod
                if heard is not None and heard.status.is_end and not heard.events:
                    # its events were too many, or are gone
                    name = "result" if heard.status is Status.SUCCEEDED else "error"
                    yield _encoded(name, heard.document, place=place)
                    return
                if time.monotonic() - said >= KEEPALIVE_SECONDS:
                    said = time.monotonic()
                    yield KEEPALIVE
                if heard is None or not heard.events:
                    await rung(bell, seconds=_DRAIN_LOOK_SECONDS)
                try:
                    heard = await queue.store.heard(id, owner=owner, after=place)
                except Unavailable:
                    heard = None
                    continue
                if heard is None:
                    return

    async def _ended(self, queue: Tasks, id: str, *, owner: str, seconds: float) -> Task:
        until = time.monotonic() + seconds
        with queue.bell.heard(id) if seconds else nullcontext() as bell:
            while True:
                task = _known(await queue.store.show(id, owner=owner))
                left = until - time.monotonic()
                if task.status.is_end or left <= 0 or bell is None or queue.drain.is_draining:
                    return task
                await rung(bell, seconds=min(left, _DRAIN_LOOK_SECONDS))


def _known(task: Task | None) -> Task:
    if task is None:
        raise ServiceError(problems.UNKNOWN)
    return task


def _unavailable() -> NoReturn:
    raise ServiceError(problems.UNAVAILABLE) from None


def _owner(record: RunRecord) -> str:
    return owner_key(owner_of(record))


def _id_of(owner: str, key: str) -> str:
    if not 0 < len(key) <= MAX_KEY:
        raise unprocessable(f"the header Idempotency-Key holds 1 to {MAX_KEY} characters")
    return hashlib.sha256(f"{owner} {key}".encode()).hexdigest()[:32]


def _wait_of(query: QueryParams) -> float:
    try:
        seconds = float(query.get("wait", "0"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:  # NaN is neither
        raise unprocessable(f"wait is a number of seconds from 0 to {MAX_WAIT_SECONDS:g}")
    return seconds


def _page_of(query: QueryParams) -> tuple[Status | None, int, int | None]:
    status, limit, before = query.get("status"), query.get("limit", "50"), query.get("before")
    if status is not None and status not in tuple(Status):
        raise unprocessable(f"status is one of {', '.join(Status)}")
    if not (limit.isdecimal() and 1 <= int(limit) <= MAX_LISTED):
        raise unprocessable(f"limit is a number from 1 to {MAX_LISTED}")
    if before is not None and not (before.isdecimal() and len(before) <= 16):
        raise unprocessable("before is what the page before calls next")
    return None if status is None else Status(status), int(limit), None if before is None else int(before)


def _place_of(after: str | None) -> str:
    """Return the place of an event in its stream, as Redis writes it."""
    if after is None:
        return _FIRST
    parts = after.split("-")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) <= 19 for part in parts):
        raise unprocessable("Last-Event-ID is the id of an event of this task")
    return after


def _encoded(name: str, data: bytes, *, place: str) -> bytes:
    return b"id: " + place.encode() + b"\nevent: " + name.encode() + b"\ndata: " + data + b"\n\n"
