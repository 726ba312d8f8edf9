"""Decides how the connections of a process to a Redis behave: a bounded pool that waits for a free one, and repeats once."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def open_redis(url: str, *, connections: int, seconds: float) -> Redis:
    """Return a client that is not connected yet; nothing takes longer than ``seconds``. Raises ValueError for what is no URL of a Redis."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        socket_keepalive=True,
        # a connection that was idle may be one to a Redis that was started again since
        retry=Retry(NoBackoff(), 1),
        client_name="agentservice",
        # answers have one shape, whatever the library's default becomes
        protocol=2,
    )
    return Redis(connection_pool=pool)
