"""Decides how one request goes to the API server over a connection that is kept, and how its answer comes back.

HTTP/1.1, one request at a time on a connection, parsed by llhttp. What streams is aiohttp's (watches, and all of kopf's); a
short request is not: its redirects, cookies, middlewares and timers took more time than everything else about the request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

KEEP_SECONDS = 60.0
"""How long a connection that nobody needs is kept. Servers and proxies close them after 75 and more."""
_RESENT = frozenset({"GET", "PUT", "DELETE"})
"""Methods that HTTP calls idempotent (RFC 9110, 9.2.2): sent anew when a kept connection turns out to have been closed."""


class Answer(NamedTuple):
    """One answer, whole. `date` and `retry_after` are the headers of these names."""

    status: int
    date: str | None
    retry_after: str | None
    body: bytes


class CannotConnectError(ConnectionError):
    """Nobody answers at the address, or TLS fails: nothing was sent."""


class LostError(ConnectionError):
    """The connection broke before the answer was whole, or what came was not HTTP."""


class Wire:
    """Sends requests to one server. Create and close it inside the event loop.

    `token` gives the bearer token to present, or None; `clock` monotonic seconds. Any number of requests may be under way: each
    has a connection of its own, which is kept afterwards for the next one.
    """

    def __init__(
        self,
        server: str,
        *,
        clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        token: Callable[[], str | None] = lambda: None,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        address = urlsplit(server)
        is_secure = address.scheme == "https"
        self._host = address.hostname or ""
        self._port = address.port or (443 if is_secure else 80)
        self._path = address.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if is_secure else None
        self._common = f" HTTP/1.1\r\nHost: {address.netloc}\r\nUser-Agent: agentservice-operator\r\n"
        self._clock = clock
        self._token = token
        self._keep_seconds = keep_seconds
        self._kept: list[tuple[float, _Line]] = []
        self._open: set[_Line] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer:
        """Send a request to the path and query of ``target``, encoded; return the answer. All of it may take so many ``seconds``.

        Raises:
            CannotConnectError: nothing was sent.
            LostError: sent, perhaps carried out.
            TimeoutError: the same.
        """
        data = self._encoded(method, target, headers, body)
        until = asyncio.get_running_loop().time() + seconds
        while True:
            line = self._take()
            is_new = line is None
            if line is None:
                line = await self._connected(until)
            try:
                answer = await line.ask(data, until)
            except LostError:
                if is_new or line.has_heard or method not in _RESENT:
                    raise
                continue
            if line.is_usable:
                self._keep(line)
            else:
                line.close()
            return answer

    async def close(self) -> None:
        """Close all connections; what is under way is lost."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._kept.clear()
        for line in list(self._open):
            line.close()

    def _encoded(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [method, " ", self._path, target, self._common]
        for name, value in headers.items():
            lines += (name, ": ", value, "\r\n")
        token = self._token()
        if token:
            if not token.isascii() or not token.isprintable():
                raise ValueError("the token holds characters that no header may have")
            lines += ("Authorization: Bearer ", token, "\r\n")
        if body is None:
            lines.append("\r\n")
            return "".join(lines).encode("ascii")
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return "".join(lines).encode("ascii") + body

    def _take(self) -> _Line | None:
        # The last one kept, so that few are in use and the others end.
        while self._kept:
            _, line = self._kept.pop()
            if line.is_usable:
                return line
        return None

    def _keep(self, line: _Line) -> None:
        self._kept.append((self._clock(), line))
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._keep_seconds, self._sweep)

    def _sweep(self) -> None:
        until = self._clock() - self._keep_seconds
        for since, line in self._kept:
            if since <= until:
                line.close()
        self._kept = [(since, line) for since, line in self._kept if since > until and line.is_usable]
        self._sweeping = (
            asyncio.get_running_loop().call_later(self._keep_seconds / 2, self._sweep) if self._kept else None
        )

    async def _connected(self, until: float) -> _Line:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until):
                _, line = await loop.create_connection(
                    lambda: _Line(loop, self._open), self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise
        except OSError as error:
            raise CannotConnectError(error.errno, error.strerror or type(error).__name__) from error
        return line


class _Line(asyncio.Protocol):
    """One connection, with at most one request on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: set[_Line]) -> None:
        self.is_usable = True
        """Whether another request may be sent."""
        self.has_heard = False
        """Whether anything came since the last request."""
        self._loop = loop
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._date: str | None = None
        self._retry_after: str | None = None
        self._is_measured = False
        self._is_begun = False
        self._pieces: list[bytes] = []

    async def ask(self, data: bytes, until: float) -> Answer:
        """Send and wait for the answer, by the loop's clock ``until`` then. After anything but an answer the connection is of no use."""
        if self._transport is None:
            raise LostError("closed")
        self.has_heard = False
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_at(until, self._fail, TimeoutError())
        try:
            self._transport.write(data)
            return await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None
            timer.cancel()

    def close(self) -> None:
        """Cut the connection."""
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.is_usable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        self.has_heard = True
        if self._waiter is None:  # a server that speaks unasked, or too much: what follows would be taken for an answer
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(LostError("not HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self)
        self._transport = None
        if exc is None and self._is_begun and not self._is_measured and self._waiter is not None:
            self.on_message_complete()  # of an answer without a length the end of the connection is the end
        self._fail(LostError("closed"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._date = self._retry_after = None
        self._is_measured = self._is_begun = False
        self._pieces.clear()
        if self._waiter is None or self._waiter.done():
            self.is_usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        known = name.lower()
        if known == b"date":
            self._date = value.decode("latin-1")
        elif known == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif known in (b"content-length", b"transfer-encoding"):
            self._is_measured = True

    def on_headers_complete(self) -> None:
        self._is_begun = True

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._is_begun = False
        status = self._parser.get_status_code()
        if status < 200 or self._waiter is None or self._waiter.done():
            return  # an interim answer: the real one follows
        self.is_usable = self.is_usable and self._parser.should_keep_alive()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiter.set_result(Answer(status, self._date, self._retry_after, body))
