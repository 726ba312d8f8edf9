"""Decides how conversations lie in PostgreSQL: one row each of one table, which whoever has the right makes when it is missing.

Times are the database's. A row that has outlived its time counts as gone at once, and is removed by a sweep of whichever agent uses
the table.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from agentservice_runtime.memory.store import CONNECTIONS, Busy, Unavailable
from agentservice_runtime.postgres import Away, Database, Table

TABLE: Final = "agentservice_conversations"
_TABLE_LOCK: Final = 0x61677363
_CREATE: Final = f"""
    create table if not exists {TABLE} (
      owner text not null, key text not null, body bytea, by text, turn text, turn_until timestamptz, expires timestamptz not null,
      primary key (owner, key)
    );
    create index if not exists {TABLE}_expires on {TABLE} (expires);
"""
_BEGIN: Final = f"""
    insert into {TABLE} as t (owner, key, turn, turn_until, expires)
    values ($1, $2, $3, now() + make_interval(secs => $4), now() + make_interval(secs => $4))
    on conflict (owner, key) do update set
      turn = excluded.turn, turn_until = excluded.turn_until, expires = greatest(t.expires, excluded.expires),
      body = case when t.expires > now() then t.body end
    where t.turn is null or t.turn = excluded.turn or t.turn_until < now()
    returning body
"""  # noqa: S608  no caller names the table
_RENEW: Final = f"""
    update {TABLE} set turn_until = now() + make_interval(secs => $4), expires = greatest(expires, now() + make_interval(secs => $4))
    where owner = $1 and key = $2 and turn = $3 returning 1
"""  # noqa: S608  no caller names the table
_KEEP: Final = f"""
    update {TABLE} set body = $4, by = $3, turn = null, turn_until = null, expires = now() + make_interval(secs => $5)
    where owner = $1 and key = $2 and (turn = $3 or (turn is null and by = $3)) returning 1
"""  # noqa: S608  no caller names the table
_LEAVE: Final = (
    f"update {TABLE} set turn = null, turn_until = null where owner = $1 and key = $2 and turn = $3 returning 1"  # noqa: S608  no caller names the table
)
_READ: Final = f"select body from {TABLE} where owner = $1 and key = $2 and expires > now()"  # noqa: S608  no caller names the table
_DELETE: Final = f"delete from {TABLE} where owner = $1 and key = $2 returning body is not null and expires > now()"  # noqa: S608  no caller names the table


class PostgresStore:
    """Conversations of one service in a database that it may share with others. It belongs to one loop."""

    def __init__(self, url: Callable[[], str | None], *, owner: str, answer_seconds: float) -> None:
        """``owner`` tells this service from all others; ``url`` is asked again when the database cannot be used.

        Raises ConfigurationRejected where the driver is not installed.
        """
        self._owner = owner
        self._database = Database(
            url,
            table=Table(name=TABLE, create=_CREATE, lock=_TABLE_LOCK),
            connections=CONNECTIONS,
            answer_seconds=answer_seconds,
            field="spec.conversations.store",
        )

    async def begin(self, key: str, *, token: str, lease_seconds: float) -> bytes | None:
        """See Store."""
        rows = await self._run(_BEGIN, key, token, lease_seconds)
        if not rows:
            raise Busy
        return rows[0][0]

    async def renew(self, key: str, *, token: str, lease_seconds: float) -> None:
        """See Store."""
        await self._run(_RENEW, key, token, lease_seconds)

    async def keep(self, key: str, *, token: str, body: bytes, seconds: float) -> bool:
        """See Store."""
        return bool(await self._run(_KEEP, key, token, body, seconds))

    async def leave(self, key: str, *, token: str) -> None:
        """See Store."""
        await self._run(_LEAVE, key, token)

    async def read(self, key: str) -> bytes | None:
        """See Store."""
        rows = await self._run(_READ, key)
        return rows[0][0] if rows else None

    async def delete(self, key: str) -> bool:
        """See Store."""
        rows = await self._run(_DELETE, key)
        return bool(rows and rows[0][0])

    async def sweep(self) -> None:
        """See Store."""
        with _translated():
            await self._database.sweep()

    async def close(self) -> None:
        """See Store."""
        await self._database.close()

    async def _run(self, statement: str, key: str, *words: Any) -> list[Any]:
        with _translated():
            return await self._database.ask(statement, self._owner, key, *words)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except Away as error:
        raise Unavailable(str(error)) from None
