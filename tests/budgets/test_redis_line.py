"""One connection to Redis that all steps of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError
from tests.services.redis_server import RedisServer
from tests.services.tcp_proxy import Fault, TcpProxy

from agentservice_runtime.redis_line import FAILURES, Line

LONG = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(port=server.port) as proxy:
        yield proxy


@pytest.fixture
async def line(proxy: TcpProxy) -> AsyncIterator[Line]:
    line = Line(lambda: Connection(host="127.0.0.1", port=proxy.port), seconds=LONG)
    yield line
    await line.close()


def packed(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


async def test_each_has_its_own_answer_whoever_else_asks_or_goes(line: Line):
    asked = [asyncio.ensure_future(line.ask(packed("ECHO", str(number)))) for number in range(300)]
    await asyncio.sleep(0)
    for gone in asked[::3]:
        gone.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer == str(number).encode()


async def test_what_redis_refuses_is_refused_to_who_asked_it_alone(line: Line):
    answers = await asyncio.gather(
        line.ask(packed("ECHO", "a")),
        line.ask(packed("NONSENSE")),
        line.ask(packed("ECHO", "b")),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == (b"a", b"b")
    assert isinstance(answers[1], ResponseError)


async def test_a_connection_that_is_lost_is_lost_to_all_who_wait_and_the_next_one_makes_another(
    line: Line, proxy: TcpProxy
):
    assert await line.ask(packed("ECHO", "before")) == b"before"
    proxy.set(Fault.LOSE_ANSWERS)
    answers = await asyncio.gather(
        *(line.ask(packed("ECHO", str(number))) for number in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, FAILURES) for answer in answers)
    proxy.set(Fault.NONE)
    assert await line.ask(packed("ECHO", "after")) == b"after"


async def test_an_answer_that_does_not_come_is_not_waited_for(server: RedisServer):
    line = Line(lambda: Connection(host="127.0.0.1", port=server.port), seconds=0.2)
    # the server takes it, and answers nobody on this connection until somebody pushes
    answers = await asyncio.gather(
        line.ask(packed("BLPOP", "never", "0")), line.ask(packed("ECHO", "behind")), return_exceptions=True
    )
    assert all(isinstance(answer, FAILURES) for answer in answers)
    for _ in range(int(LONG / 0.2)):  # a busy machine may take longer than that to connect
        try:
            assert await line.ask(packed("ECHO", "after")) == b"after"
            break
        except FAILURES:
            continue
    else:
        pytest.fail("it never connected again")
    await line.close()


async def test_who_waits_when_it_is_closed_is_told(line: Line):
    await line.ask(packed("ECHO", "connected"))
    waiting = asyncio.ensure_future(line.ask(packed("BLPOP", "never", "0")))
    await asyncio.sleep(0)  # it is on its way
    await line.close()
    with pytest.raises(FAILURES):
        await waiting
