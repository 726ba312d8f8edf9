"""Decides how conversations lie in Redis: one hash each, which ends by its time to live, and beside it whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from agentservice_runtime.memory.store import CONNECTIONS, Busy, Unavailable
from agentservice_runtime.redis_pool import open_redis


class _Step(Enum):
    """Each is one script, and may be repeated when its answer was lost. KEYS: the conversation, its turn. ARGV[1]: the token."""

    BEGIN = """
        local held = redis.call('GET', KEYS[2])
        if held and held ~= ARGV[1] then return {0} end
        redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
        return {1, redis.call('HGET', KEYS[1], 'body') or ''}
    """
    RENEW = """
        if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
        return {}
    """
    KEEP = """
        if redis.call('HGET', KEYS[1], 'by') == ARGV[1] then return {1} end
        if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {0} end
        redis.call('HSET', KEYS[1], 'body', ARGV[2], 'by', ARGV[1])
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
        redis.call('DEL', KEYS[2])
        return {1}
    """
    LEAVE = """
        if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
        return {}
    """
    READ = "return {redis.call('HGET', KEYS[1], 'body') or ''}"
    DELETE = """
        redis.call('DEL', KEYS[2])
        return {redis.call('DEL', KEYS[1])}
    """


class RedisStore:
    """Conversations of one service in a Redis that it may share with others. It belongs to one loop."""

    def __init__(self, url: Callable[[], str | None], *, owner: str, answer_seconds: float) -> None:
        """``owner`` tells this service from all others; ``url`` is asked again when Redis cannot be used."""
        self._url = url
        # the braces put both keys into one slot of a Redis Cluster
        self._prefix = f"agentservice:conversation:{{{owner}}}"
        self._answer_seconds = answer_seconds
        self._client: Redis | None = None
        self._opened_url: str | None = None

    async def begin(self, key: str, *, token: str, lease_seconds: float) -> bytes | None:
        """See Store."""
        is_ours, *body = await self._run(_Step.BEGIN, key, token, round(1000 * lease_seconds))
        if not is_ours:
            raise Busy
        return body[0] or None

    async def renew(self, key: str, *, token: str, lease_seconds: float) -> None:
        """See Store."""
        await self._run(_Step.RENEW, key, token, round(1000 * lease_seconds))

    async def keep(self, key: str, *, token: str, body: bytes, seconds: float) -> bool:
        """See Store."""
        (is_kept,) = await self._run(_Step.KEEP, key, token, body, round(1000 * seconds))
        return bool(is_kept)

    async def leave(self, key: str, *, token: str) -> None:
        """See Store."""
        await self._run(_Step.LEAVE, key, token)

    async def read(self, key: str) -> bytes | None:
        """See Store."""
        (body,) = await self._run(_Step.READ, key)
        return body or None

    async def delete(self, key: str) -> bool:
        """See Store."""
        (removed,) = await self._run(_Step.DELETE, key)
        return bool(removed)

    async def sweep(self) -> None:
        """See Store: Redis does so by itself."""

    async def close(self) -> None:
        """See Store."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(self._answer_seconds):
                    await client.aclose()
                    await client.connection_pool.disconnect()

    async def _run(self, step: _Step, key: str, *words: str | int | bytes) -> list[Any]:
        keys = (f"{self._prefix}:{key}", f"{self._prefix}:{key}:turn")
        try:
            async with asyncio.timeout(self._answer_seconds):
                if self._client is None:
                    self._opened_url = self._url()
                    self._client = open_redis(
                        self._opened_url or "", connections=CONNECTIONS, seconds=self._answer_seconds
                    )
                send = cast("Callable[..., Awaitable[list[Any]]]", self._client.execute_command)
                return await send("EVAL", step.value, len(keys), *keys, *words)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            if self._url() != self._opened_url:
                await self.close()
            raise Unavailable(type(error).__name__) from None
