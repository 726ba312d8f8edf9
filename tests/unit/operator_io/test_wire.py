"""How requests go over kept connections, and what happens when the server breaks off, closes, falls silent or talks nonsense."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentservice_operator.kube.wire import Answer, CannotConnectError, LostError, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Script:
    """A server that answers with these bytes, one after the other; an empty one cuts the connection instead."""

    answers: list[bytes]
    pause: float = 0.0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(x[15:]) for x in head.split(b"\r\n") if x.startswith(b"Content-Length:")), 0)
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                await asyncio.sleep(self.pause)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
                if b"until the end" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def scripted(*answers: bytes, pause: float = 0.0, **changes: Any) -> AsyncIterator[tuple[Script, Wire]]:
    script = Script(list(answers), pause)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    wire = Wire(script.url + changes.pop("path", ""), **({"clock": time.monotonic} | changes))
    try:
        yield script, wire
    finally:
        await wire.close()
        server.close()


def ask(wire: Wire, method: str = "GET", *, body: bytes | None = None, seconds: float = 5.0) -> Any:
    return wire.send(method, "/a?b=c", headers={"Accept": "application/json"}, body=body, seconds=seconds)


async def settled(question: Callable[[], bool]) -> None:
    for _ in range(500):
        if question():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to hold")


async def test_a_request_says_what_it_is_to_be_and_the_next_one_goes_over_the_same_connection() -> None:
    async with scripted(OK, OK, path="/clusters/one/", token=lambda: "t0ken") as (script, wire):
        assert await ask(wire, "POST", body=b'{"x":1}') == Answer(200, None, None, b"{}")
        await ask(wire)
        assert script.connections == 1
        first, second = script.requests
        assert first.split(b"\r\n") == [
            b"POST /clusters/one/a?b=c HTTP/1.1",
            b"Host: " + script.url.removeprefix("http://").encode(),
            b"User-Agent: agentservice-operator",
            b"Accept: application/json",
            b"Authorization: Bearer t0ken",
            b"Content-Length: 7",
            b"",
            b'{"x":1}',
        ]
        assert b"Content-Length" not in second


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with scripted(*[OK] * 6, pause=0.02) as (script, wire):
        await asyncio.gather(*(ask(wire) for _ in range(3)))
        await asyncio.gather(*(ask(wire) for _ in range(3)))
        assert script.connections == 3


async def test_a_chunked_answer_is_put_together_and_its_headers_are_read_in_any_case() -> None:
    chunked = b'HTTP/1.1 429 Busy\r\nTRANSFER-ENCODING: chunked\r\nretry-after: 7\r\ndate: today\r\n\r\n4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n'
    async with scripted(chunked, OK) as (script, wire):
        assert await ask(wire) == Answer(429, "today", "7", b'{"a":1}')
        assert await ask(wire) == Answer(200, None, None, b"{}")  # nothing of the one before
        assert script.connections == 1


async def test_an_answer_that_closes_the_connection_is_its_last() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    async with scripted(closing, OK) as (script, wire):
        await ask(wire)
        await ask(wire)
        assert script.connections == 2


async def test_an_answer_without_a_length_lasts_until_the_connection_ends() -> None:
    async with scripted(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", OK) as (script, wire):
        assert (await ask(wire)).body == b"until the end"
        await ask(wire)
        assert script.connections == 2


async def test_an_answer_that_breaks_off_is_lost_though_it_looked_good() -> None:
    async with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nuntil the end", OK) as (_, wire):
        with pytest.raises(LostError):
            await ask(wire)


async def test_an_interim_answer_is_passed_over() -> None:
    async with scripted(b"HTTP/1.1 103 Early Hints\r\nDate: wrong\r\n\r\n" + OK) as (_, wire):
        assert await ask(wire) == Answer(200, None, None, b"{}")


@pytest.mark.parametrize(("method", "is_resent"), [("GET", True), ("PUT", True), ("POST", False), ("PATCH", False)])
async def test_a_kept_connection_that_the_server_gave_up_costs_a_second_try_where_that_is_harmless(
    method: str, is_resent: bool
) -> None:
    async with scripted(OK, b"", OK) as (script, wire):
        await ask(wire)
        if is_resent:
            assert (await ask(wire, method)).status == 200
        else:
            with pytest.raises(LostError):
                await ask(wire, method)
        assert len(script.requests) == (3 if is_resent else 2)


async def test_a_new_connection_that_the_server_closes_is_no_reason_to_try_again() -> None:
    async with scripted(b"", OK) as (script, wire):
        with pytest.raises(LostError):
            await ask(wire)
        assert len(script.requests) == 1


async def test_a_connection_that_ended_while_nobody_needed_it_is_not_used() -> None:
    async with scripted(OK, OK) as (script, wire):
        await ask(wire)
        script.writers[0].close()
        await settled(lambda: script.open == 0)
        await asyncio.sleep(0.05)
        assert (await ask(wire, "POST", body=b"")).status == 200
        assert script.connections == 2


async def test_what_comes_unasked_ends_the_connection_and_answers_nothing() -> None:
    stray = b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"
    async with scripted(OK + stray, OK, OK) as (script, wire):
        assert (await ask(wire)).status == 200
        assert (await ask(wire)).status == 200
        script.writers[-1].write(stray)
        await settled(lambda: script.open == 0)
        assert (await ask(wire)).status == 200
        assert script.connections == 3


async def test_what_is_not_http_is_lost() -> None:
    async with scripted(b"SSH-2.0-OpenSSH\r\n\r\n") as (_, wire):
        with pytest.raises(LostError, match="not HTTP"):
            await ask(wire)


async def test_a_silent_server_is_given_up_in_time_and_its_late_answer_answers_nobody() -> None:
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"
    async with scripted(late, OK, pause=0.1) as (script, wire):
        with pytest.raises(TimeoutError):
            await ask(wire, seconds=0.02)
        assert (await ask(wire)).body == b"{}"
        assert script.connections == 2


async def test_a_second_try_has_only_the_time_that_the_first_has_left() -> None:
    async with scripted(OK, b"", OK, pause=0.2) as (script, wire):
        await ask(wire)
        with pytest.raises(TimeoutError):
            await ask(wire, seconds=0.3)
        assert script.connections == 2


async def test_a_request_that_is_cancelled_leaves_no_answer_to_the_next() -> None:
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"
    async with scripted(late, OK, pause=0.05) as (script, wire):
        task = asyncio.create_task(ask(wire))
        await settled(lambda: len(script.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await ask(wire)).body == b"{}"


async def test_connections_that_nobody_needs_are_closed_after_a_while() -> None:
    async with scripted(*[OK] * 3, pause=0.02, keep_seconds=0.1) as (script, wire):
        await asyncio.gather(*(ask(wire) for _ in range(3)))
        assert script.open == 3
        await settled(lambda: script.open == 0)


async def test_nobody_listening_says_why() -> None:
    wire = Wire("http://127.0.0.1:1", clock=time.monotonic)
    with pytest.raises(CannotConnectError, match=r"127\.0\.0\.1"):
        await ask(wire)


async def test_a_server_that_does_not_speak_tls_is_told_nothing() -> None:
    async with scripted(OK) as (script, _):
        wire = Wire(script.url.replace("http:", "https:"), clock=time.monotonic, token=lambda: "t0ken")
        with pytest.raises((CannotConnectError, TimeoutError)):
            await ask(wire, seconds=1.0)
        assert script.requests == []


async def test_a_token_cannot_smuggle_headers_in() -> None:
    async with scripted(OK, token=lambda: "t0ken\r\nX-Remote-User: admin") as (script, wire):
        with pytest.raises(ValueError, match="token"):
            await ask(wire)
        assert script.connections == 0


async def test_closing_ends_what_is_under_way() -> None:
    async with scripted(OK, pause=5.0) as (script, wire):
        task = asyncio.create_task(ask(wire))
        await settled(lambda: len(script.requests) == 1)
        await wire.close()
        with pytest.raises(LostError):
            await task
