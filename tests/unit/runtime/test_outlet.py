"""When the head of a streamed answer is sent, and what a silent run says."""

import asyncio

import pytest

from agentservice_runtime.outlet import KEEPALIVE, Outlet

HEAD = {"type": "http.response.start", "status": 200, "headers": []}


class Client:
    """Takes what is sent, unless it reads slowly."""

    def __init__(self) -> None:
        self.sent = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message):
        await self.reads.wait()
        self.sent.append(message)

    @property
    def bodies(self):
        assert self.sent[0] == HEAD
        assert [message["type"] for message in self.sent[1:]] == ["http.response.body"] * (len(self.sent) - 1)
        return [message["body"] for message in self.sent[1:]]


@pytest.fixture
async def client():
    return Client()


@pytest.fixture
async def outlet(client):
    opened = []

    def make(**seconds):
        opened.append(Outlet(client.send, head=lambda: HEAD, **seconds))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()


async def test_the_head_goes_before_the_first_word_once(client, outlet):
    said = outlet()
    said.begin_soon()
    await said.say(b"one")
    await said.begin()
    await said.say(b"two")
    await said.end(b"three")
    assert client.bodies == [b"one", b"two", b"three"]
    assert [message["more_body"] for message in client.sent[1:]] == [True, True, False]


async def test_an_answer_without_a_word_has_a_head_and_an_end(client, outlet):
    await outlet().end()
    assert client.bodies == [b""]


async def test_a_run_that_says_nothing_for_long_has_a_head_all_the_same(client, outlet):
    said = outlet()
    said.begin_within(0.02)
    assert client.sent == []
    await asyncio.sleep(0.1)
    assert client.sent == [HEAD]
    await said.say(b"at last")
    assert client.bodies == [b"at last"]


async def test_a_head_that_was_to_come_late_comes_soon_when_that_is_said_later(client, outlet):
    said = outlet()
    said.begin_within(60)
    said.begin_within(0.02)
    await asyncio.sleep(0.1)
    assert client.sent == [HEAD]


async def test_what_is_known_of_the_head_after_it_was_sent_ends_no_keeping_alive(client, outlet):
    said = outlet(keepalive_seconds=0.03)
    await said.begin()
    said.begin_within(60)
    await asyncio.sleep(0.2)
    assert KEEPALIVE in client.bodies


async def test_silence_is_broken_again_and_again_until_something_is_said(client, outlet):
    said = outlet(keepalive_seconds=0.05)
    await said.say(b"first")
    await asyncio.sleep(0.3)
    broken = client.bodies[1:]
    assert len(broken) >= 3
    assert set(broken) == {KEEPALIVE}
    await said.say(b"second")
    assert client.bodies[-1] == b"second"


async def test_who_talks_is_not_interrupted(client, outlet):
    said = outlet(keepalive_seconds=0.2)
    for _ in range(20):
        await said.say(b"word")
        await asyncio.sleep(0.02)
    assert client.bodies == [b"word"] * 20


async def test_nothing_is_piled_up_for_a_client_that_does_not_read(client, outlet):
    said = outlet(keepalive_seconds=0.02)
    await said.say(b"first")
    client.reads.clear()
    waiting = asyncio.create_task(said.say(b"second"))
    await asyncio.sleep(0.2)
    client.reads.set()
    await waiting
    assert client.bodies[:2] == [b"first", b"second"]


async def test_after_it_is_closed_nothing_is_said(client, outlet):
    said = outlet(keepalive_seconds=0.02)
    await said.begin()
    await said.close()
    silent = outlet()
    silent.begin_within(0.02)
    await silent.close()
    await asyncio.sleep(0.1)
    assert client.sent == [HEAD]
