"""Decides how steps lie in PostgreSQL: one row each of one table, and one for each task that says whose the next step is.

The fence is when the lease began, in ms by Redis' clock: a process that has lost its lease to a later one writes nothing
more. Times of expiry are the database's; a sweep of whichever agent uses the table removes what has outlived its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentservice_runtime.postgres import Database, Table

TABLE: Final = "agentservice_steps"
CONNECTIONS: Final = 8
"""Of one process. No step takes longer than a round trip."""
_TABLE_LOCK: Final = 0x61677374
_HEAD: Final = "number = 0 and call = ''"
_CREATE: Final = f"""
    create table if not exists {TABLE} (
      owner text not null, task text not null, number integer not null, call text not null, digest text, fence bigint,
      body bytea, expires timestamptz not null,
      primary key (owner, task, number, call)
    );
    create index if not exists {TABLE}_expires on {TABLE} (expires);
"""
_OPEN: Final = f"""
    insert into {TABLE} as t (owner, task, number, call, fence, expires)
    values ($1, $2, 0, '', $3, now() + make_interval(secs => $4))
    on conflict (owner, task, number, call) do update set fence = excluded.fence where t.fence <= excluded.fence
    returning 1
"""  # noqa: S608  no caller names the table
_LIST: Final = f"""
    update {TABLE} set expires = now() + make_interval(secs => $3) where owner = $1 and task = $2
    returning number, call, digest
"""  # noqa: S608  no caller names the table
_READ: Final = f"select body from {TABLE} where owner = $1 and task = $2 and number = $3 and call = $4"  # noqa: S608  no caller names the table
# the lock holds a later lease's `open` back until this is written, so that it sees it
_WRITE: Final = f"""
    with held as (select 1 from {TABLE} where owner = $1 and task = $2 and {_HEAD} and fence = $3 for share)
    insert into {TABLE} (owner, task, number, call, digest, body, expires)
    select $1, $2, $4, $5, $6, $7, now() + make_interval(secs => $8) from held
    on conflict (owner, task, number, call) do update set digest = excluded.digest, body = excluded.body, expires = excluded.expires
    returning 1
"""  # noqa: S608  no caller names the table
_DISCARD: Final = f"""
    with held as (select 1 from {TABLE} where owner = $1 and task = $2 and {_HEAD} and fence = $3 for share),
    gone as (delete from {TABLE} where owner = $1 and task = $2 and number >= $4 and exists (select 1 from held))
    select 1 from held
"""  # noqa: S608  no caller names the table
_FORGET: Final = f"delete from {TABLE} where owner = $1 and task = $2"  # noqa: S608  no caller names the table


class Lost(Exception):  # noqa: N818
    """A later lease has the task."""


class StepStore:
    """Steps of one service's tasks in a database that it may share with others. Every method but `close` raises Away."""

    def __init__(
        self, url: Callable[[], str | None], *, owner: str, keep_seconds: float, answer_seconds: float
    ) -> None:
        """``owner`` tells this service from all others. Raises ConfigurationRejected where the driver is not installed."""
        self._owner = owner
        self._keep_seconds = keep_seconds
        self._database = Database(
            url,
            table=Table(name=TABLE, create=_CREATE, lock=_TABLE_LOCK),
            connections=CONNECTIONS,
            answer_seconds=answer_seconds,
            field="spec.queue.durability",
        )

    async def open(self, task: str, *, fence: int) -> dict[tuple[int, str], str]:
        """Take the task's steps over and return their numbers and calls, each with its digest. Raises Lost."""
        if not await self._database.ask(_OPEN, self._owner, task, fence, self._keep_seconds):
            raise Lost
        rows = await self._database.ask(_LIST, self._owner, task, self._keep_seconds)
        return {(number, call): digest for number, call, digest in rows if number}

    async def read(self, task: str, *, number: int, call: str) -> bytes | None:
        """Return a step."""
        rows = await self._database.ask(_READ, self._owner, task, number, call)
        return rows[0][0] if rows else None

    async def write(self, task: str, *, fence: int, number: int, call: str, digest: str, body: bytes) -> None:
        """Write a step, in place of another if there is one. Raises Lost."""
        words = (fence, number, call, digest, body, self._keep_seconds)
        if not await self._database.ask(_WRITE, self._owner, task, *words):
            raise Lost

    async def discard(self, task: str, *, fence: int, number: int) -> None:
        """Remove the steps from ``number`` (1 at least) on. Raises Lost."""
        if not await self._database.ask(_DISCARD, self._owner, task, fence, number):
            raise Lost

    async def forget(self, task: str) -> None:
        """Remove all there is of a task."""
        await self._database.ask(_FORGET, self._owner, task)

    async def sweep(self) -> None:
        """Remove what has outlived its time."""
        await self._database.sweep()

    async def close(self) -> None:
        """Close all connections. Never raises."""
        await self._database.close()
