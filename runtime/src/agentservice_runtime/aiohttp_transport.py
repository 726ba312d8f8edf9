"""Decides how a provider's HTTP client talks HTTP: through aiohttp, whose parser and writer are C, in place of httpx's own.

It costs a run 9 % less processor time. OpenAI's SDK has such a transport too, but tells a server that hung up, which may have answered
and billed, from one that was never reached by neither the type nor the phase of its error; budgets need to know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import aiohttp
import httpx2
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

_ERRORS: Final[tuple[tuple[type[Exception], type[httpx2.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
)
"""The first that matches holds, and ReadError for any other. Only the first, third, fourth and fifth mean that nothing was sent."""
_IDLE_SECONDS: Final = 4.0
"""How long a connection may wait for its next request: servers hang up after 5 (uvicorn's default) or later, and a request that crosses that fails."""
_OWN_HEADERS: Final = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 over aiohttp, with the environment's proxies. It belongs to the event loop of its first request."""

    def __init__(self, *, max_connections: int) -> None:
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str | None], _Proxy] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request whose body has been read and return the answer once its head is here. Raises httpx2's errors."""
        if self._session is None:
            self._session = self._connect()
        seconds: dict[str, Any] = request.extensions.get("timeout", {})
        url = URL(str(request.url), encoded=True)
        proxy = self._proxy(url)
        with _as_httpx():
            answer = await self._session.request(
                request.method,
                url,
                headers=[*request.headers.multi_items(), *proxy.shown_with_request.items()],
                data=request.content or None,
                allow_redirects=False,
                skip_auto_headers=_OWN_HEADERS,
                timeout=aiohttp.ClientTimeout(
                    connect=seconds.get("pool"), sock_connect=seconds.get("connect"), sock_read=seconds.get("read")
                ),
                proxy=proxy.url,
                proxy_headers=proxy.shown,
            )
        return httpx2.Response(
            answer.status,
            headers=list(answer.raw_headers),
            stream=_Body(answer),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (answer.reason or "").encode("ascii", "ignore")},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=_IDLE_SECONDS, ssl=httpx2.create_ssl_context()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _proxy(self, url: URL) -> _Proxy:
        """Return the environment's proxy for ``url``. aiohttp would look, and read .netrc, on two threads for each request."""
        origin = (url.scheme, url.host)
        known = self._proxies.get(origin)
        if known is None:
            known = self._proxies[origin] = _proxy_for(url)
        return known


class _Proxy(NamedTuple):
    """Through whom a request goes, and what it is shown beside the request's own headers."""

    url: URL | None = None
    shown: Mapping[str, str] | None = None
    """Where the proxy is asked for a tunnel."""
    shown_with_request: Mapping[str, str] = {}
    """Where it is asked for the page."""


def _proxy_for(url: URL) -> _Proxy:
    try:
        proxy, auth = get_env_proxy_for_url(url)
    except LookupError:
        return _Proxy()
    if auth is None:
        return _Proxy(proxy)
    credentials = {"Proxy-Authorization": auth.encode()}
    return _Proxy(proxy, credentials) if url.scheme == "https" else _Proxy(proxy, None, credentials)


class _Body(httpx2.AsyncByteStream):
    """What an answer says after its head, as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        # a connection whose answer has been read to its end is in the pool by now, any other is of no more use
        self._answer.close()


@contextmanager
def _as_httpx() -> Generator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise _translated(error) from error


def _translated(error: Exception) -> httpx2.TransportError:
    ours = next((ours for theirs, ours in _ERRORS if isinstance(error, theirs)), httpx2.ReadError)
    return ours(str(error) or type(error).__name__)
