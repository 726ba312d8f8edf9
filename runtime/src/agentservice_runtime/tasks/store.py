"""Decides how the queue's steps stand in Redis: each is one script, so that whoever dies between two of them breaks nothing.

A task is a hash; its entry in the stream waits for a worker, or is pending while one holds its lease. The lease is a
token in the hash and lives as long as the entry is not idle: what its holder writes counts only while the token is its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from redis.exceptions import ResponseError

from agentservice_api import names
from agentservice_runtime.errors import Problem
from agentservice_runtime.outage import Outage
from agentservice_runtime.redis_scripts import FAILURES, Scripts
from agentservice_runtime.redis_scripts import Word as Argument
from agentservice_runtime.tasks.task import Reason, Status, Task

CONNECTIONS: Final = 16
ANSWER_SECONDS: Final = 5.0
"""For a step as a whole, connecting included."""
BLOCK_SECONDS: Final = 1.0
"""How long one look for a task waits for it."""
WAITS_SECONDS: Final = 2_592_000
"""30 days: so long a task may wait for a worker, or for its next try, before it is forgotten."""
DEAD_SECONDS: Final = 604_800
"""7 days at least that a failed task can be looked at and queued again."""


class Unavailable(Exception):  # noqa: N818  who asks decides what that means
    """Redis cannot be asked. A step that was under way may have been done or not."""


class Step(StrEnum):
    """The scripts."""

    SUBMIT = "submit"
    BEGIN = "begin"
    RENEW = "renew"
    NOTE = "note"
    FINISH = "finish"
    BACK = "back"
    SWEEP = "sweep"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    SHOW = "show"
    LISTED = "listed"
    HEARD = "heard"


class Word(StrEnum):
    """What the steps answer."""

    NEW = "NEW"
    KNOWN = "KNOWN"
    OTHER = "OTHER"
    """The id is that of another request."""
    UNKNOWN = "UNKNOWN"
    ENDED = "ENDED"
    CANCELLED = "CANCELLED"
    CANCELLING = "CANCELLING"
    NOT_FAILED = "NOT_FAILED"
    DONE = "DONE"
    HELD = "HELD"
    CANCEL = "CANCEL"
    LOST = "LOST"
    """The lease is another's."""
    BEGUN = "BEGUN"
    LATER = "LATER"
    GONE = "GONE"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A task that this process works on."""

    id: str
    token: str
    attempts: int
    """This one included."""
    is_suspect: bool
    """Whether a worker has ended with it before."""
    created: int
    """ms since the epoch."""
    started: int
    """ms since the epoch, by Redis' clock: later for each lease of the task."""
    asker: bytes = field(repr=False)
    input: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Swept:
    """The queue after a sweep, and what that found."""

    waiting: int
    running: int
    delayed: int
    oldest_seconds: float
    lost: int
    dead: int


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the queue's configuration and the words of its problems bring into the scripts."""

    lease_seconds: float
    max_attempts: int
    result_seconds: float
    cancelled: Problem
    given_up: Problem
    away_seconds: float | None = None
    """After so long without a sweep of anybody's, Redis was away. Default: half a lease."""

    @property
    def dead_seconds(self) -> float:
        """How long a failed task is kept."""
        return max(self.result_seconds, DEAD_SECONDS)


class TaskStore:
    """The queue of one agent in a Redis that it may share with others. It belongs to one loop."""

    def __init__(
        self,
        url: Callable[[], str | None],
        *,
        prefix: str,
        terms: Terms,
        consumer: str,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """``consumer`` tells this process from all others."""
        self.prefix = prefix
        self.terms = terms
        self._stream = f"{prefix}:tasks"
        self._consumer = consumer
        package = "agentservice_runtime.tasks"
        self._scripts = Scripts(
            url,
            package=package,
            names=tuple(Step),
            prelude="common",
            answer_seconds=answer_seconds,
            connections=CONNECTIONS,
        )
        # what waits for a task needs a connection of its own, and more patience
        self._reader = Scripts(
            url, package=package, names=(), answer_seconds=answer_seconds + BLOCK_SECONDS, connections=1
        )
        self._outage = Outage(
            "tasks",
            away="the queue's Redis cannot be used: no task is taken in or begun",
            back="the queue's Redis answers again",
        )

    async def submit(self, id: str, *, owner: str, asker: bytes, content: bytes) -> Word:
        """Take a task in. Raises Unavailable, and then the same may be submitted again."""
        fingerprint = hashlib.sha256(content).hexdigest()
        word, _ = await self._run(Step.SUBMIT, id, owner, asker, content, fingerprint, _ms(WAITS_SECONDS))
        return Word(word.decode())

    async def next(self) -> tuple[str, str] | None:
        """Wait a moment for a task; return its entry and its id. Raises Unavailable."""
        words = ("GROUP", names.QUEUE_GROUP, self._consumer, "COUNT", 1, "BLOCK", _ms(BLOCK_SECONDS))
        try:
            try:
                found = await self._reader.send("XREADGROUP", *words, "STREAMS", self._stream, ">")
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                # the first look of all, or a Redis that came back empty
                await self._reader.send("XGROUP", "CREATE", self._stream, names.QUEUE_GROUP, "0", "MKSTREAM")
                found = None
        except FAILURES as error:
            self._outage.tell(error)
            raise Unavailable from None
        if not found:
            return None
        ((_, ((entry, values),)),) = found
        return entry.decode(), values[b"id"].decode()

    async def begin(self, id: str, entry: str, *, token: str, has_suspect: bool) -> Lease | None:
        """Take the lease of a task that `next` has returned; None when it is not to be begun here. Raises Unavailable."""
        words = (entry, self._consumer, token, int(has_suspect), _ms(WAITS_SECONDS))
        word, *told = await self._run(Step.BEGIN, id, *words)
        if Word(word.decode()) is not Word.BEGUN:
            return None
        attempts, lost, created, started, asker, content = told
        return Lease(
            id=id,
            token=token,
            attempts=int(attempts),
            is_suspect=int(lost) > 0,
            created=int(created),
            started=int(started),
            asker=asker,
            input=content,
        )

    async def renew(self, leases: Sequence[Lease]) -> list[Word]:
        """Prolong leases; each is HELD, LOST, or HELD and to be CANCELled. Raises Unavailable."""
        pairs = [word for lease in leases for word in (lease.id, lease.token)]
        answers = await self._run(Step.RENEW, self._consumer, _ms(WAITS_SECONDS), *pairs)
        return [Word(answer.decode()) for answer in answers]

    async def note(self, lease: Lease, events: Sequence[tuple[str, bytes]]) -> None:
        """Tell of a task's progress, as names and JSON. Raises Unavailable."""
        await self._run(Step.NOTE, lease.id, lease.token, *(word for event in events for word in event))

    async def finish(self, lease: Lease, status: Status, document: bytes, *, reason: str, run_id: str) -> Word:
        """Write a task's end: DONE, or LOST when another holds the lease. Raises Unavailable; then it can be written again."""
        seconds = self.terms.dead_seconds if status is Status.FAILED else self.terms.result_seconds
        words = (lease.token, status, document, reason, run_id, _ms(seconds))
        return Word((await self._run(Step.FINISH, lease.id, *words)).decode())

    async def back(self, lease: Lease, *, after_seconds: float, counts: bool, problem: bytes = b"") -> Word:
        """Give a task back, to be begun after so long; ``counts`` says whether this was an attempt. Raises Unavailable."""
        terms = self.terms
        words = (_ms(after_seconds), int(counts), problem, terms.cancelled.body(), _ms(terms.result_seconds))
        return Word((await self._run(Step.BACK, lease.id, lease.token, *words)).decode())

    async def sweep(self) -> Swept:
        """Do what is due, unless another has just done it, and tell how long the queue is. Raises Unavailable."""
        terms = self.terms
        words: tuple[Argument, ...] = (
            _ms(terms.lease_seconds),
            terms.max_attempts,
            terms.given_up.body(),
            Reason.WORKERS,
            _ms(terms.dead_seconds),
            terms.cancelled.body(),
            _ms(terms.result_seconds),
            _ms(self.sweep_seconds / 2),
            _ms(WAITS_SECONDS),
            _ms(terms.lease_seconds / 2 if terms.away_seconds is None else terms.away_seconds),
        )
        waiting, running, delayed, age, lost, dead = await self._run(Step.SWEEP, *words)
        return Swept(waiting=waiting, running=running, delayed=delayed, oldest_seconds=age / 1000, lost=lost, dead=dead)

    @property
    def sweep_seconds(self) -> float:
        """Between two sweeps."""
        return min(5.0, self.terms.lease_seconds / 6)

    async def cancel(self, id: str, *, owner: str) -> Word:
        """Cancel a task. Raises Unavailable."""
        words = (owner, self.terms.cancelled.body(), _ms(self.terms.result_seconds))
        return Word((await self._run(Step.CANCEL, id, *words)).decode())

    async def requeue(self, id: str, *, owner: str) -> Word:
        """Queue a failed task again. Raises Unavailable."""
        return Word((await self._run(Step.REQUEUE, id, owner, _ms(WAITS_SECONDS))).decode())

    async def show(self, id: str, *, owner: str) -> Task | None:
        """Return a task of ``owner``, None when there is none. Raises Unavailable."""
        values = await self._run(Step.SHOW, id, owner)
        return Task.of(id, values) if values else None

    async def listed(self, *, owner: str, dead: bool, before: int | None, count: int) -> tuple[list[Task], int | None]:
        """Return tasks of ``owner``, newest first, and the place to go on from. Raises Unavailable."""
        place = "+inf" if before is None else f"({before}"
        following, rows = await self._run(Step.LISTED, owner, "dead" if dead else "all", place, count)
        return [Task.of(id.decode(), values) for id, values in rows], int(following) if following else None

    async def heard(self, id: str, *, owner: str, after: str) -> Heard | None:
        """Return what there is to tell of a task since ``after``, None when ``owner`` has none. Raises Unavailable."""
        told = await self._run(Step.HEARD, id, owner, after)
        if not told:
            return None
        state, document, events = told
        found = [Told(place=place.decode(), name=values[1].decode(), data=values[3]) for place, values in events]
        return Heard(status=Status(state.decode()), document=document, events=found)

    async def close(self) -> None:
        """Close all connections. Never raises."""
        await asyncio.gather(self._reader.close(), self._scripts.close())

    async def _run(self, step: Step, *words: Argument) -> Any:
        try:
            answer = await self._scripts.run(step, [self._stream], [self.prefix, *words])
        except FAILURES as error:
            self._outage.tell(error)
            raise Unavailable from None
        self._outage.tell(None)
        return answer


@dataclass(frozen=True, kw_only=True)
class Told:
    """One event of a task's progress."""

    place: str
    """Its place among them."""
    name: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What there is to tell of a task."""

    status: Status
    document: bytes
    """The end, as JSON; empty before."""
    events: list[Told]


def owner_key(who: str | None) -> str:
    """Return what stands for a caller in Redis."""
    return hashlib.sha256((who or "").encode()).hexdigest()[:24]


def pause_seconds(attempts: int, *, least: float = 0.0) -> float:
    """Return how long a task waits for its next try: doubled each time, up to 5 minutes, and not less than ``least``."""
    most = min(300.0, 2.0 * 2 ** (attempts - 1))
    return max(least, most * random.uniform(0.75, 1.25))  # noqa: S311  so that they do not come in step


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
