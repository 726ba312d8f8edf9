"""Decides how a PostgreSQL of the user's is spoken with: few connections, one table that whoever has the right makes, no long waits."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentservice_runtime.rejected import ConfigurationRejected

_SWEPT_AT_ONCE: Final = 1_000


class Away(Exception):  # noqa: N818  who asks decides what that means
    """The database cannot be asked, or refuses. Its message is the error's type: a driver's own words may name the address."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that is made when it is missing. Its rows have a time of expiry, by the database's clock."""

    name: str
    create: str
    """Statements that change nothing where it is there, and make a column `expires timestamptz`."""
    lock: int
    """An advisory lock: two pods that make the table at once would fail each other."""


class Database:
    """A database that may be shared with others. It belongs to one loop."""

    def __init__(
        self, url: Callable[[], str | None], *, table: Table, connections: int, answer_seconds: float, field: str
    ) -> None:
        """``url`` is asked again when the database cannot be used; ``field`` is what of the specification asks for it.

        Raises ConfigurationRejected where the driver is not installed.
        """
        try:
            self._driver: Any = importlib.import_module("asyncpg")
        except ImportError:
            raise ConfigurationRejected(
                field, "needs the package asyncpg in the image: install agentservice-runtime[postgres]"
            ) from None
        self._url = url
        self._table = table
        self._connections = connections
        self._answer_seconds = answer_seconds
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._opened_url: str | None = None

    async def ask(self, statement: str, *words: Any) -> list[Any]:
        """Return the rows. A statement may be sent twice. Raises Away."""
        failures = (self._driver.PostgresError, self._driver.InterfaceError, OSError, ValueError)
        try:
            async with asyncio.timeout(self._answer_seconds):
                try:
                    return await (await self._opened()).fetch(statement, *words)
                except TimeoutError:
                    raise
                except failures:
                    # a connection that was idle may be one to a database that was started again since
                    await self.close()
                    return await (await self._opened()).fetch(statement, *words)
        except (*failures, TimeoutError) as error:
            if self._url() != self._opened_url:
                await self.close()
            raise Away(type(error).__name__) from None

    async def sweep(self) -> None:
        """Remove what has outlived its time, whoever's it is. Raises Away."""
        statement = f"""
            delete from {self._table.name} where ctid = any(array(
              select ctid from {self._table.name} where expires < now() limit {_SWEPT_AT_ONCE} for update skip locked
            )) returning 1
        """  # noqa: S608  no caller names the table
        while len(await self.ask(statement)) == _SWEPT_AT_ONCE:
            pass

    async def close(self) -> None:
        """Close all connections; the next question opens others. Never raises."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._answer_seconds):
                    await pool.close()
            pool.terminate()

    async def _opened(self) -> Any:
        async with self._opening:
            if self._pool is None:
                self._opened_url = self._url()
                pool = self._driver.create_pool(
                    _plain(self._opened_url or ""),
                    min_size=0,
                    max_size=self._connections,
                    max_inactive_connection_lifetime=60.0,
                    timeout=self._answer_seconds,
                    command_timeout=self._answer_seconds,
                    # poolers in front of a database give each statement another connection
                    statement_cache_size=0,
                    server_settings={"application_name": "agentservice"},
                )
                await pool
                try:
                    await self._make_table(pool)
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
            return self._pool

    async def _make_table(self, pool: Any) -> None:
        async with pool.acquire() as connection:
            # only who may make tables is allowed to say `if not exists`
            if await connection.fetchval("select to_regclass($1)", self._table.name) is None:
                async with connection.transaction():
                    await connection.execute("select pg_advisory_xact_lock($1)", self._table.lock)
                    await connection.execute(self._table.create)


def _plain(url: str) -> str:
    """Return the URL without the driver that SQLAlchemy's form names."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}" if separator else url
