"""Decides how the steps of a budget reach Redis: each is one script, so it is atomic, and may be sent again, so it may be retried.

Whatever goes wrong is a LedgerUnavailable that says what kind of thing it was: redis-py's own messages name the address.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any, Final, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from agentservice_runtime.ledger.interface import LedgerUnavailable

CONNECTIONS: Final = 16
ANSWER_SECONDS: Final = 2.0
"""To connect, to have a free connection, and for each answer."""
RETRIES: Final = 2
KEYS: Final = ("book", "open", "lease", "lost", "done", "models")

Word = str | int


class Code(StrEnum):
    """What a step answers; the scripts say what comes with each."""

    OK = "OK"
    GRANT = "GRANT"
    BUSY = "BUSY"
    EXHAUSTED = "EXHAUSTED"
    SHORT = "SHORT"
    """What this Redis has of the AgentLedger does not cover it."""
    STALE = "STALE"
    """The window that was named is not the current one."""
    EPOCH = "EPOCH"
    """This is another life of Redis than the one that was named."""
    REPEATED = "REPEATED"
    """It was carried out before."""
    REPORT = "REPORT"
    NOTHING = "NOTHING"
    WAIT = "WAIT"
    """Another process writes to the AgentLedger."""


class Step(StrEnum):
    """The scripts."""

    RESERVE = "reserve"
    """Where Redis stands alone."""
    DRAW = "draw"
    """In a cluster."""
    SETTLE = "settle"
    RENEW = "renew"
    LOOK = "look"
    REPORT = "report"
    TELL = "tell"
    BOOKS = "books"


@dataclass(frozen=True, slots=True)
class Reply:
    """A step's answer."""

    code: Code
    now: int
    """Redis' clock, in ms."""
    day: bytes = b""
    """The account of the day, as `account` reads it; empty where the step tells none."""
    month: bytes = b""
    rest: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str


_CODES: Final = {code.value.encode(): code for code in Code}


def _scripts() -> dict[Step, _Script]:
    folder = resources.files("agentservice_runtime.ledger") / "lua"
    common = (folder / "common.lua").read_text(encoding="utf-8")
    found: dict[Step, _Script] = {}
    for step in Step:
        text = common + (folder / f"{step.value}.lua").read_text(encoding="utf-8")
        # EVALSHA names scripts so
        found[step] = _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return found


class RedisSteps:
    """The steps of one account. `open` and all others belong to one loop."""

    def __init__(self, url: Callable[[], str]) -> None:
        """``url`` is asked again when Redis cannot be used: a password may have been replaced."""
        self._url = url
        self._scripts = _scripts()
        self._opened_url = ""
        self._client: Redis | None = None
        self._keys: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether there is a pool of connections, which are made as they are needed."""
        return self._client is not None

    @property
    def place(self) -> str:
        """A short word for the server and database that the URL names, without its user, password and options."""
        parts = urlsplit(self._url())
        where = f"{parts.hostname or ''}:{parts.port or 6379}{parts.path or '/0'}"
        return hashlib.sha256(where.encode()).hexdigest()[:8]

    def name(self, account: str) -> None:
        """Say whose account the steps are about. All of its keys are in one slot of a Redis Cluster."""
        self._keys = tuple(f"agentservice:{{{account}}}:{key}" for key in KEYS)

    async def open(self) -> None:
        """Make the pool. Raises LedgerUnavailable for what is no URL of a Redis."""
        if self._client is not None:
            return
        self._opened_url = self._url()
        try:
            pool = BlockingConnectionPool.from_url(
                self._opened_url,
                max_connections=CONNECTIONS,
                timeout=ANSWER_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                socket_keepalive=True,
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), RETRIES),
                client_name="agentservice",
            )
        except ValueError:
            raise LedgerUnavailable("the budget's Redis URL cannot be used: write redis:// or rediss://") from None
        self._client = Redis(connection_pool=pool)

    async def close(self) -> None:
        """Close all connections. Never raises."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.aclose()
                await client.connection_pool.disconnect()
            except (RedisError, OSError):
                pass

    async def run(self, step: Step, *words: Word) -> Reply:
        """Carry out a step. Raises LedgerUnavailable; whether it was carried out is unknown then, so send it again."""
        script = self._scripts[step]
        try:
            try:
                return await self._run(script, words)
            except (RedisError, OSError, TimeoutError):
                if self._url() == self._opened_url:
                    raise
            await self.close()
            await self.open()
            return await self._run(script, words)
        except (RedisError, OSError, TimeoutError) as error:
            raise LedgerUnavailable(f"the budget's Redis cannot be used: {_kind(error)}") from None

    async def _run(self, script: _Script, words: Sequence[Word]) -> Reply:
        if self._client is None:
            raise LedgerUnavailable("the budget's ledger is closed")
        send = cast("Callable[..., Awaitable[list[Any]]]", self._client.execute_command)
        count = len(self._keys)
        try:
            answer = await send("EVALSHA", script.sha, count, *self._keys, *words)
        except NoScriptError:
            answer = await send("EVAL", script.text, count, *self._keys, *words)
        code, now = _CODES[answer[0]], int(answer[1])
        return Reply(code, now, answer[2], answer[3], answer[4:]) if len(answer) > 3 else Reply(code, now)


def account(told: bytes | str) -> tuple[int, ...]:
    """Return settled, presumed and reserved tokens and nano-USD in turn."""
    return tuple(map(int, told.split()))


def _kind(error: Exception) -> str:
    word = re.match(r"[A-Z]{3,20}\b", str(error)) if isinstance(error, ResponseError) else None
    return f"{type(error).__name__} {word.group()}" if word else type(error).__name__
