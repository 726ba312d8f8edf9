"""An HTTP proxy in front of a real API server that does to requests what happens on bad days: it slows, refuses, loses and cuts."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from devcluster.certificates import Pair

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REASONS = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "te", "upgrade"})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as the proxy sees it. `number` counts from 0 those of the same method, resource and kind of reading."""

    method: str
    path: str
    resource: str
    watch: bool
    number: int

    @property
    def writes(self) -> bool:
        return self.method in WRITES


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What happens to a request: `delay` seconds first; then `refuse` with a status, or pass."""

    delay: float = 0.0
    refuse: int | None = None
    retry_after: int | None = None
    """Seconds, for a refusal."""
    loses_answer: bool = False
    """The API server carries it out, and the connection ends before a word of the answer."""
    holds_answer: bool = False
    """The API server carries it out, and the answer never comes."""
    gone: bool = False
    """For a watch: the event of type ERROR that says that its resourceVersion is too old."""


Weather = Callable[[Asked], Fate | None]


def fair(_: Asked) -> None:
    """Nothing happens to anybody."""


class ApiProxy:
    """Plain HTTP on 127.0.0.1 to ``server`` with the client certificate of ``pair``. A context manager with a thread of its own.

    `weather` decides what happens to each request; set it at any time.
    """

    def __init__(self, *, server: str, authority: str, pair: Pair) -> None:
        self.weather: Weather = fair
        self.carried_out = Counter[tuple[str, str, int]]()
        """Answers of the API server, by method, resource and status."""
        self.refused = Counter[tuple[str, str, int]]()
        """Refusals of our own."""
        self._numbers = Counter[tuple[str, str, bool]]()
        self._server = server
        self._tls = ssl.create_default_context(cafile=authority)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        self._watches: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api proxy", daemon=True)

    def __enter__(self) -> ApiProxy:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def cut_watches(self) -> int:
        """End all watches in mid-stream; return how many there were."""
        return self._do(self._cut())

    def forget(self) -> None:
        """Count anew."""
        self.carried_out.clear()
        self.refused.clear()
        self._numbers.clear()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port: int = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._cut()
        await self._runner.cleanup()
        await self._session.close()
        held = asyncio.all_tasks() - {asyncio.current_task()}
        for task in held:  # requests whose answers are held back
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    async def _cut(self) -> int:
        cut = list(self._watches)
        for transport in cut:
            transport.abort()
        return len(cut)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = self._asked(request)
        fate = self.weather(asked) or Fate()
        body = await request.read()
        if fate.delay:
            await asyncio.sleep(fate.delay)
        if fate.refuse is not None:
            self.refused[asked.method, asked.resource, fate.refuse] += 1
            return _refusal(fate.refuse, fate.retry_after)
        if fate.gone:
            self.refused[asked.method, asked.resource, 410] += 1
            return web.Response(body=json.dumps({"type": "ERROR", "object": _status(410)}) + "\n")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        target = URL(self._server + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                request.method, target, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                if not asked.watch:
                    content = await answer.read()
                    self.carried_out[asked.method, asked.resource, answer.status] += 1
                    if fate.holds_answer:
                        await asyncio.sleep(3600)
                    if fate.loses_answer:
                        return _cut_off(request)
                    return web.Response(status=answer.status, headers=_passed_on(answer), body=content)
                return await self._stream(request, answer)
        except (aiohttp.ClientError, OSError):
            return _cut_off(request)  # nobody is there

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status, headers=_passed_on(answer))
        transport = request.transport
        if transport is None:
            return stream
        self._watches.add(transport)
        try:
            await stream.prepare(request)
            async for chunk in answer.content.iter_any():
                await stream.write(chunk)
            await stream.write_eof()
        finally:
            self._watches.discard(transport)
        return stream

    def _asked(self, request: web.Request) -> Asked:
        url = urlsplit(request.raw_path)
        watch = parse_qs(url.query).get("watch", [""])[0] in ("true", "1")
        parts = url.path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            rest = rest[2:]
        resource = rest[0] if rest else ""
        about = (request.method, resource, watch)
        number = self._numbers[about]
        self._numbers[about] += 1
        return Asked(method=request.method, path=url.path, resource=resource, watch=watch, number=number)


def _status(code: int) -> dict[str, Any]:
    reason = _REASONS.get(code, HTTPStatus(code).phrase)
    kind = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**kind, "code": code, "reason": reason, "message": f"a drill: {reason}"}


def _refusal(code: int, retry_after: int | None) -> web.Response:
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return web.json_response(_status(code), status=code, headers=headers)


def _passed_on(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}


def _cut_off(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
