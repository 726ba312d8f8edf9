"""Decides how the steps of a budget reach Redis: each is one script, so it is atomic, and may be sent again, so it may be retried.

Whatever goes wrong is a LedgerUnavailable that says what kind of thing it was: redis-py's own messages name the address.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from agentservice_runtime.ledger.interface import LedgerUnavailable
from agentservice_runtime.redis_line import FAILURES, Line, packed_word

ANSWER_SECONDS: Final = 2.0
"""To connect, and for each answer."""
PAUSES: Final = (0.02, 0.04)
"""Seconds before a step is sent again, and once more."""
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


class Reply(NamedTuple):
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
        self._line: Line | None = None
        self._keys: tuple[str, ...] = ()
        self._heads: dict[tuple[str, str], bytes] = {}
        """What each script's commands begin with, packed."""

    @property
    def place(self) -> str:
        """A short word for the server and database that the URL names, without its user, password and options."""
        parts = urlsplit(self._url())
        where = f"{parts.hostname or ''}:{parts.port or 6379}{parts.path or '/0'}"
        return hashlib.sha256(where.encode()).hexdigest()[:8]

    def name(self, account: str) -> None:
        """Say whose account the steps are about. All of its keys are in one slot of a Redis Cluster."""
        self._keys = tuple(f"agentservice:{{{account}}}:{key}" for key in KEYS)
        self._heads.clear()

    async def open(self) -> None:
        """Read the URL. Raises LedgerUnavailable for what is no URL of a Redis."""
        if self._line is not None:
            return
        self._opened_url = self._url()
        try:
            # the line keeps time for all who wait, and steps are sent again here: a connection does neither
            pool = ConnectionPool.from_url(
                self._opened_url,
                socket_timeout=None,
                socket_connect_timeout=ANSWER_SECONDS,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
                client_name="agentservice",
            )
        except ValueError:
            raise LedgerUnavailable("the budget's Redis URL cannot be used: write redis:// or rediss://") from None
        self._line = Line(pool.make_connection, seconds=ANSWER_SECONDS)

    async def close(self) -> None:
        """End the connection. Never raises."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def run(self, step: Step, *words: Word) -> Reply:
        """Carry out a step. Raises LedgerUnavailable; whether it was carried out is unknown then, so send it again."""
        script = self._scripts[step]
        try:
            try:
                return await self._run(script, words)
            except FAILURES:
                if self._url() == self._opened_url:
                    raise
            await self.close()
            await self.open()
            return await self._run(script, words)
        except FAILURES as error:
            raise LedgerUnavailable(f"the budget's Redis cannot be used: {_kind(error)}") from None

    async def _run(self, script: _Script, words: Sequence[Word]) -> Reply:
        try:
            answer = await self._send("EVALSHA", script.sha, words)
        except NoScriptError:
            answer = await self._send("EVAL", script.text, words)
        # the steps of every request answer in one string, a line for each part, which is read with less effort than a list
        parts: Sequence[Any] = answer.split(b"\n") if isinstance(answer, bytes) else answer
        code, now = _CODES[parts[0]], int(parts[1])
        return Reply(code, now, parts[2], parts[3], parts[4:]) if len(parts) > 3 else Reply(code, now)

    async def _send(self, command: str, script: str, words: Sequence[Word]) -> Any:
        head = self._heads.get((command, script))
        if head is None:
            given = (command, script, len(self._keys), *self._keys)
            head = self._heads[command, script] = b"".join(map(packed_word, given))
        parts = [b"*%d\r\n" % (3 + len(self._keys) + len(words)), head]
        parts += map(packed_word, words)
        packed = b"".join(parts)
        for pause in PAUSES:
            try:
                return await self._open_line().ask(packed)
            except ResponseError:
                raise
            except FAILURES:
                await asyncio.sleep(pause)
        return await self._open_line().ask(packed)

    def _open_line(self) -> Line:
        if self._line is None:
            raise LedgerUnavailable("the budget's ledger is closed")
        return self._line


def account(told: bytes | str) -> tuple[int, ...]:
    """Return settled, presumed and reserved tokens and nano-USD in turn."""
    return tuple(map(int, told.split()))


def _kind(error: Exception) -> str:
    word = re.match(r"[A-Z]{3,20}\b", str(error)) if isinstance(error, ResponseError) else None
    return f"{type(error).__name__} {word.group()}" if word else type(error).__name__
