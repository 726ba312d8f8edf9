"""Decides how the scripts of one part are sent to Redis: by their digest, over a few connections or one that all share, waited for so long and not longer.

Who asks decides what a failure means.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final, Protocol, cast

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, RedisError

from agentservice_runtime.redis_line import Line, packed

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
        connections: int | None,
    ) -> None:
        """``url`` is asked again after a failure; ``prelude`` names the script that stands before each.

        ``answer_seconds`` are for a step as a whole, connecting included. None for ``connections``: all steps share one, which costs a
        third of the processor time, and each waits for the answers before its own. No step may block then.
        """
        self._url = url
        self._answer_seconds = answer_seconds
        self._connections = connections
        folder = resources.files(package) / "lua"
        before = (folder / f"{prelude}.lua").read_text(encoding="utf-8") if prelude else ""
        self._texts = {name: before + (folder / f"{name}.lua").read_text(encoding="utf-8") for name in names}
        # EVALSHA names scripts so
        self._shas = {n: hashlib.sha1(t.encode(), usedforsecurity=False).hexdigest() for n, t in self._texts.items()}
        self._client: _Client | None = None
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
            if self._client is None:
                self._client = self._open()
            return await self._client.send(*words)
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
                    await client.close()

    def _open(self) -> _Client:
        """Return a client that is not connected yet. Raises ValueError for what is no URL of a Redis."""
        self._opened_url = self._url() or ""
        if self._connections is None:
            return _Shared(self._opened_url, seconds=self._answer_seconds)
        return _Pooled(self._opened_url, seconds=self._answer_seconds, connections=self._connections)


class _Client(Protocol):
    async def send(self, *words: Word) -> Any: ...
    async def close(self) -> None: ...


_OPTIONS: Final[Mapping[str, Any]] = {
    "socket_keepalive": True,
    "client_name": "agentservice",
    # answers have one shape, whatever the library's default becomes
    "protocol": 2,
}


class _Pooled:
    """Each step has a connection to itself."""

    def __init__(self, url: str, *, seconds: float, connections: int) -> None:
        self._seconds = seconds
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=seconds,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            # a connection that was idle may be one to a Redis that was started again since
            retry=Retry(NoBackoff(), 1),
            **_OPTIONS,
        )
        self._client = Redis(connection_pool=pool)

    async def send(self, *words: Word) -> Any:
        async with asyncio.timeout(self._seconds):
            return await cast("Callable[..., Awaitable[Any]]", self._client.execute_command)(*words)

    async def close(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


class _Shared:
    """All steps share one connection."""

    def __init__(self, url: str, *, seconds: float) -> None:
        self._seconds = seconds
        # the line keeps time for all who wait
        pool = ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0), **_OPTIONS
        )
        self._line = Line(pool.make_connection, seconds=seconds)

    async def send(self, *words: Word) -> Any:
        command = packed(*words)
        if self._line.is_connected:
            with contextlib.suppress(ConnectionLost):
                return await self._line.ask(command)
            # it may be that of a Redis that was started again since
        async with asyncio.timeout(self._seconds):
            return await self._line.ask(command)

    async def close(self) -> None:
        await self._line.close()
