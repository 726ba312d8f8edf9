"""Decides how the scripts of one part are sent to Redis: by their digest, over a few connections, waited for so long and not longer.

Who asks decides what a failure means.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import resources
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

FAILURES: Final = (RedisError, OSError, TimeoutError, ValueError)
"""What `Scripts.run` and `Scripts.send` raise: no answer, a refusal, or a URL that is none."""

Word = str | int | float | bytes


class Scripts:
    """The scripts of a package's folder `lua`, in one Redis. It belongs to one loop."""

    def __init__(
        self,
        url: Callable[[], str | None],
        *,
        package: str,
        names: Iterable[str],
        prelude: str | None = None,
        answer_seconds: float,
        connections: int,
    ) -> None:
        """``url`` is asked again after a failure; ``prelude`` names the script that stands before each.

        ``answer_seconds`` are for a step as a whole, connecting included.
        """
        self._url = url
        self._answer_seconds = answer_seconds
        self._connections = connections
        folder = resources.files(package) / "lua"
        before = (folder / f"{prelude}.lua").read_text(encoding="utf-8") if prelude else ""
        self._texts = {name: before + (folder / f"{name}.lua").read_text(encoding="utf-8") for name in names}
        # EVALSHA names scripts so
        self._shas = {n: hashlib.sha1(t.encode(), usedforsecurity=False).hexdigest() for n, t in self._texts.items()}
        self._client: Redis | None = None
        self._opened_url = ""

    async def run(self, name: str, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """Run a script and return its answer. Raises FAILURES."""
        try:
            return await self.send("EVALSHA", self._shas[name], len(keys), *keys, *words)
        except NoScriptError:
            return await self.send("EVAL", self._texts[name], len(keys), *keys, *words)

    async def send(self, *words: Word) -> Any:
        """Send a command and return its answer. Raises FAILURES."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                if self._client is None:
                    self._client = self._open()
                return await cast("Callable[..., Awaitable[Any]]", self._client.execute_command)(*words)
        except NoScriptError:
            raise
        except FAILURES:
            if self._url() != self._opened_url:
                await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; the next step opens them again. Never raises."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(self._answer_seconds):
                    await client.aclose()
                    await client.connection_pool.disconnect()

    def _open(self) -> Redis:
        """Return a client that is not connected yet. Raises ValueError for what is no URL of a Redis."""
        self._opened_url = self._url() or ""
        pool = BlockingConnectionPool.from_url(
            self._opened_url,
            max_connections=self._connections,
            timeout=self._answer_seconds,
            socket_timeout=self._answer_seconds,
            socket_connect_timeout=self._answer_seconds,
            socket_keepalive=True,
            # a connection that was idle may be one to a Redis that was started again since
            retry=Retry(NoBackoff(), 1),
            client_name="agentservice",
            # answers have one shape, whatever the library's default becomes
            protocol=2,
        )
        return Redis(connection_pool=pool)
