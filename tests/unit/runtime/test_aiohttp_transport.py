"""A provider's client hears what happened to its request, above all whether it may have been answered and billed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from agentservice_runtime.aiohttp_transport import AiohttpTransport
from devcluster.standalone import free_ports

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads a request and then does what the test says, on one connection after another."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.url = ""


@asynccontextmanager
async def serving(behave: Behave) -> AsyncGenerator[Server]:
    seen = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.heads.append(head)
                length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
                await reader.readexactly(length)
                await behave(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat"
    try:
        yield seen
    finally:
        server.close()


@asynccontextmanager
async def client(seconds: float = 30.0) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=AiohttpTransport(max_connections=10), timeout=seconds) as made:
        yield made


async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: 1\r\nx-a: 2\r\n\r\nhi")


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhi")
    await writer.drain()
    writer.close()


async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"no HTTP at all\r\n\r\n")


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def zipped(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(b"hello")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


async def test_a_request_says_what_its_client_says_and_nothing_else() -> None:
    async with serving(answer) as server, client() as http:
        for _ in range(2):
            response = await http.post(server.url, json={"a": 1}, headers={"user-agent": "ours", "x-key": "k"})
            assert (response.text, response.headers.get_list("x-a")) == ("hi", ["1", "2"])
    assert server.connections == 1
    names = sorted(line.split(b":")[0].lower() for line in server.heads[0].split(b"\r\n")[1:] if line)
    assert names == sorted(
        [
            b"host",
            b"accept",
            b"accept-encoding",
            b"connection",
            b"user-agent",
            b"x-key",
            b"content-length",
            b"content-type",
        ]
    )
    assert b"user-agent: ours" in server.heads[0].lower()


async def test_a_connection_that_its_server_may_be_about_to_close_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentservice_runtime.aiohttp_transport._IDLE_SECONDS", 0.01)
    async with serving(answer) as server, client() as http:
        for _ in range(2):
            assert (await http.post(server.url)).text == "hi"
            await asyncio.sleep(0.1)
    assert server.connections == 2


class NoThreads(ThreadPoolExecutor):
    """Of which none may be asked for."""

    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a thread was asked for")


async def test_a_request_waits_for_no_thread() -> None:
    asyncio.get_running_loop().set_default_executor(NoThreads())
    async with serving(answer) as server, client() as http:
        assert (await http.post(server.url, json={"a": 1})).text == "hi"


async def test_the_environments_proxy_is_asked_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer) as proxy, serving(answer) as server, client() as http:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:secret@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for _ in range(2):
            assert (await http.get("http://model.invalid/v1/chat")).text == "hi"
        assert (await http.get(server.url)).text == "hi"
    assert (len(proxy.heads), len(server.heads)) == (2, 1)
    assert proxy.heads[0].startswith(b"GET http://model.invalid/v1/chat ")
    assert b"proxy-authorization: basic bwu6c2vjcmv0" in proxy.heads[0].lower()


async def test_a_compressed_answer_is_read() -> None:
    async with serving(zipped) as server, client() as http:
        assert (await http.get(server.url)).text == "hello"


@pytest.mark.parametrize("behave", [hang_up, cut, garbage], ids=["hangs up", "cuts its answer", "speaks no HTTP"])
async def test_a_server_that_may_have_billed_is_never_one_that_was_not_reached(behave: Behave) -> None:
    async with serving(behave) as server, client() as http:
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await http.post(server.url, json={"a": 1})
    assert len(server.heads) == 1


async def test_a_server_that_is_not_there_is_told_so() -> None:
    (port,) = free_ports(1)
    async with client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.post(f"http://127.0.0.1:{port}/v1/chat", json={"a": 1})
        with pytest.raises(httpx2.ConnectError):
            await http.post("http://no-such-host.invalid/v1/chat", json={"a": 1})


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_asked() -> None:
    async with serving(silence) as server, client(seconds=0.2) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.post(server.url, json={"a": 1})


async def test_a_stream_comes_as_it_is_sent_and_ends_its_connection_when_it_is_left() -> None:
    go_on, left = asyncio.Event(), asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\non\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n")
        assert not await reader.read(1)
        left.set()

    async with serving(stream) as server, client() as http:
        async with http.stream("POST", server.url, json={"a": 1}) as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"on"
            go_on.set()
            assert await anext(chunks) == b"two"
        await asyncio.wait_for(left.wait(), timeout=60)
