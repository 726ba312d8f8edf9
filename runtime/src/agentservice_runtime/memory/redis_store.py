"""Decides how conversations lie in Redis: one hash each, which ends by its time to live, and beside it whose turn it is."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from agentservice_runtime.memory.store import CONNECTIONS, Busy, Unavailable
from agentservice_runtime.redis_scripts import FAILURES, Scripts


class _Step(StrEnum):
    """Each is one script, and may be repeated when its answer was lost. KEYS: the conversation, its turn. ARGV[1]: the token."""

    BEGIN = "begin"
    RENEW = "renew"
    KEEP = "keep"
    LEAVE = "leave"
    READ = "read"
    DELETE = "delete"


class RedisStore:
    """Conversations of one service in a Redis that it may share with others. It belongs to one loop."""

    def __init__(self, url: Callable[[], str | None], *, owner: str, answer_seconds: float) -> None:
        """``owner`` tells this service from all others; ``url`` is asked again when Redis cannot be used."""
        self._scripts = Scripts(
            url,
            package="agentservice_runtime.memory",
            names=tuple(_Step),
            answer_seconds=answer_seconds,
            connections=CONNECTIONS,
        )
        # the braces put both keys into one slot of a Redis Cluster
        self._prefix = f"agentservice:conversation:{{{owner}}}"

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
        await self._scripts.close()

    async def _run(self, step: _Step, key: str, *words: str | int | bytes) -> list[Any]:
        try:
            return await self._scripts.run(step, (f"{self._prefix}:{key}", f"{self._prefix}:{key}:turn"), words)
        except FAILURES as error:
            raise Unavailable(type(error).__name__) from None
