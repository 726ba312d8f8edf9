"""Decides what Acme's agents share in one pod: a pool of database connections, made once and closed after the last run."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

POOL_SIZE = 5
"""Connections of one pod, at most. Replicas times this must stay below the server's max_connections."""

log = logging.getLogger("acme.infrastructure")


@dataclass(frozen=True, kw_only=True)
class Infrastructure:
    """What tools find in `ctx.deps`."""

    database: AsyncEngine


@asynccontextmanager
async def infrastructure() -> AsyncIterator[Infrastructure]:
    """Open the pool that DATABASE_URL names (postgresql+asyncpg://...), and close it when the pod has finished its runs.

    The pod's name is each connection's application_name: `select application_name, count(*) from pg_stat_activity
    group by 1` shows who holds what. Raises KeyError when DATABASE_URL is not set.
    """
    opened = 0
    pod = os.environ.get("POD_NAME", "data-analyst")
    engine = create_async_engine(
        os.environ["DATABASE_URL"],
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,
        connect_args={"server_settings": {"application_name": pod}, "timeout": 10},
    )

    def count(*_: object) -> None:
        nonlocal opened
        opened += 1

    event.listen(engine.sync_engine, "connect", count)
    log.info("database pool of at most %d connections is open", POOL_SIZE)
    try:
        yield Infrastructure(database=engine)
    finally:
        await engine.dispose()
        log.info("database pool is closed; it opened %d connections", opened)
