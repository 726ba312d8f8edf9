"""One flight of equal runs over several stores, each as in a process of its own, on a real Redis that is lost in all ways."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart
from tests.services.redis_server import RedisServer
from tests.services.tcp_proxy import Fault, TcpProxy

from agentservice_runtime.cache.flight import Alone, Flights, Found, Lease
from agentservice_runtime.cache.outcome import Unavailable
from agentservice_runtime.cache.purges import ALL, Purges, of_prefix
from agentservice_runtime.cache.replay import Kept
from agentservice_runtime.cache.store import Store

EVER = 100
_KEYS = count()


@pytest.fixture(scope="module")
def shared_redis(installed: None) -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(installed: None) -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Pod:
    """What a process has of the cache."""

    def __init__(self, port: int, **options: Any) -> None:
        options = {"owner": "team-a/support/uid", "ttl_seconds": 3600, "answer_seconds": 60, **options}
        self.store = Store(lambda: f"redis://127.0.0.1:{port}/0", **options)
        self.flights = Flights(self.store)

    async def board(self, key: str, *, wait_seconds: float = EVER, message: str = "") -> Found | Lease | Alone:
        def counts(known: Purges, of: str) -> bool:
            return known.counts(of, message=message, tags=frozenset())

        return await self.flights.board(key, counts=counts, run_seconds=EVER, wait_seconds=wait_seconds)

    async def lead(self, key: str) -> Lease:
        boarded = await self.board(key)
        assert isinstance(boarded, Lease)
        return boarded


@asynccontextmanager
async def pods(port: int, number: int = 2, **options: Any) -> AsyncIterator[list[Pod]]:
    found = [Pod(port, **options) for _ in range(number)]
    try:
        yield found
    finally:
        for pod in found:
            await pod.flights.settle()
            await pod.store.close()


def new_key() -> str:
    return f"{next(_KEYS):064x}"


def answer(key: str) -> bytes:
    return Kept(key=key, tokens=7, response=ModelResponse(parts=[TextPart("yes")])).encode()


async def test_one_leads_and_all_others_get_its_answer(shared_redis: RedisServer) -> None:
    async with pods(shared_redis.port, 4) as found:
        key = new_key()
        boarded = await asyncio.gather(*(pod.board(key, wait_seconds=0) for pod in found for _ in range(4)))
        (lease,) = [each for each in boarded if isinstance(each, Lease)]
        assert sum(isinstance(each, Alone) for each in boarded) == 15  # who may not wait goes alone
        waiting = [asyncio.create_task(pod.board(key)) for pod in found]
        await lease.keep(answer(key), seconds=EVER)
        told = await asyncio.wait_for(asyncio.gather(*waiting), EVER)
        assert all(isinstance(each, Found) and each.kept.tokens == 7 for each in told)


async def test_a_lease_that_is_left_is_taken_by_one_of_those_who_wait(shared_redis: RedisServer) -> None:
    async with pods(shared_redis.port) as (first, second):
        key = new_key()
        lease = await first.lead(key)
        waiting = [asyncio.create_task(second.board(key)) for _ in range(3)]
        lease.leave(alone_seconds=0)
        done, others = await asyncio.wait(waiting, timeout=EVER, return_when=asyncio.FIRST_COMPLETED)
        (following,) = [task.result() for task in done]
        assert isinstance(following, Lease)
        await following.keep(answer(key), seconds=EVER)
        assert all(isinstance(each, Found) for each in await asyncio.wait_for(asyncio.gather(*others), EVER))


async def test_when_an_answer_cannot_be_kept_nobody_waits_for_the_next(shared_redis: RedisServer) -> None:
    async with pods(shared_redis.port) as (first, second):
        key = new_key()
        lease = await first.lead(key)
        waiting = [asyncio.create_task(second.board(key)) for _ in range(3)]
        lease.leave(alone_seconds=EVER)
        assert all(isinstance(each, Alone) for each in await asyncio.wait_for(asyncio.gather(*waiting), EVER))


async def test_a_lease_is_renewed_while_its_run_lasts_and_ends_with_its_process(shared_redis: RedisServer) -> None:
    async with pods(shared_redis.port, lease_seconds=12) as (first, second):
        key = new_key()
        lease = await first.lead(key)
        last = left(shared_redis, key)
        async with asyncio.timeout(EVER):
            while (now := left(shared_redis, key)) <= last:
                last = now
                await asyncio.sleep(0.1)
        lease._renewing.cancel()  # as a process that is gone
        following = await asyncio.wait_for(second.board(key), EVER)
        assert isinstance(following, Lease)
        following.leave(alone_seconds=0)


def left(redis: RedisServer, key: str) -> int:
    """The ms that a lease has left."""
    told = redis.command("PTTL", f"agentservice:cache:{{team-a/support/uid}}:flight:{key}")
    return int(told.strip().removeprefix(":"))


async def test_who_is_cancelled_while_asking_leaves_no_lease_behind(redis: RedisServer) -> None:
    async with pods(redis.port, lease_seconds=3600) as (first, second):
        key = new_key()
        warm = await first.lead(new_key())
        os.kill(redis.pid, signal.SIGSTOP)
        asking = asyncio.create_task(first.board(key))
        await asyncio.sleep(0.1)
        asking.cancel()
        os.kill(redis.pid, signal.SIGCONT)
        with pytest.raises(asyncio.CancelledError):
            await asking
        warm.leave(alone_seconds=0)
        await first.flights.settle()
        boarded = await asyncio.wait_for(second.board(key), 2 * EVER)
        assert isinstance(boarded, Lease)  # a lease that was left behind would have outlasted the wait
        boarded.leave(alone_seconds=0)


async def test_a_purge_counts_for_the_answers_of_runs_that_began_before_it(shared_redis: RedisServer) -> None:
    async with pods(shared_redis.port) as (first, second):
        key = new_key()
        lease = await first.lead(key)
        await second.store.purge(of_prefix("old"), token="t")
        await lease.keep(answer(key), seconds=EVER)
        assert isinstance(await first.board(key, message="young"), Found)
        following = await first.board(key, message="old tale")
        assert isinstance(following, Lease)
        await following.keep(answer(key), seconds=EVER)
        assert isinstance(await second.board(key, message="old tale"), Found)


async def test_more_purges_than_are_kept_purge_everything(redis: RedisServer) -> None:
    async with pods(redis.port) as (first, second):
        key = new_key()
        await (await first.lead(key)).keep(answer(key), seconds=EVER)
        for number in range(300):
            await second.store.purge(of_prefix(f"prefix {number}"), token="t")
        assert isinstance(await first.board(key, message="something else"), Lease)
        size = redis.command("HLEN", "agentservice:cache:{team-a/support/uid}:purges")
        assert int(size.strip().removeprefix(":")) <= 256
        await first.flights.settle()


async def test_when_the_list_of_purges_is_lost_no_answer_of_before_counts(redis: RedisServer) -> None:
    async with pods(redis.port) as (first, second):
        key = new_key()
        lease = await first.lead(key)
        await lease.keep(answer(key), seconds=EVER)
        assert isinstance(await second.board(key), Found)
        await second.store.purge(ALL, token="t")
        redis.command("DEL", "agentservice:cache:{team-a/support/uid}:purges")  # as Redis does that runs out of memory
        following = await first.board(key)
        assert isinstance(following, Lease)
        await following.keep(answer(key), seconds=EVER)
        assert isinstance(await second.board(key), Found)


async def test_answers_and_leases_end_with_their_time(shared_redis: RedisServer) -> None:
    async with pods(shared_redis.port) as (first, second):
        key = new_key()
        await (await first.lead(key)).keep(answer(key), seconds=0.001)
        boarded: Any = None
        while not isinstance(boarded, Lease):
            boarded = await asyncio.wait_for(second.board(key), EVER)
        for kind in ("flight", "purges"):
            name = f"agentservice:cache:{{team-a/support/uid}}:{kind}{':' + key if kind == 'flight' else ''}"
            assert int(shared_redis.command("PTTL", name).strip().removeprefix(":")) > 0
        boarded.leave(alone_seconds=0)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.LOSE_ANSWERS])
async def test_a_network_that_fails_is_told_at_once_and_found_again(redis: RedisServer, fault: Fault) -> None:
    async with TcpProxy(port=redis.port) as proxy, pods(proxy.port, 1) as (pod,), pods(redis.port, 1) as (other,):
        lease = await pod.lead(new_key())
        proxy.set(fault)
        key = new_key()
        with pytest.raises(Unavailable):
            await pod.board(key)
        await lease.keep(b"lost", seconds=EVER)  # raises nothing
        proxy.set(Fault.NONE)
        async with asyncio.timeout(EVER):
            while True:
                try:
                    boarded = await pod.board(key, wait_seconds=0)
                except Unavailable:
                    await asyncio.sleep(0.1)
                    continue
                break
        assert isinstance(boarded, Lease | Alone)
        lease = await other.lead(new_key())
        await lease.keep(answer(lease.key), seconds=EVER)
        assert isinstance(await pod.board(lease.key), Found)


async def test_a_redis_that_hangs_is_waited_for_only_so_long_and_mixes_up_no_answers(redis: RedisServer) -> None:
    async with pods(redis.port, 1, answer_seconds=0.5) as (pod,), pods(redis.port, 1) as (other,):
        keys = [new_key() for _ in range(20)]
        for key in keys:
            await (await other.lead(key)).keep(answer(key), seconds=EVER)
        os.kill(redis.pid, signal.SIGSTOP)
        async with asyncio.timeout(EVER):
            told = await asyncio.gather(*(pod.board(key) for key in keys), return_exceptions=True)
        assert all(isinstance(each, Unavailable) for each in told)
        os.kill(redis.pid, signal.SIGCONT)
        async with asyncio.timeout(EVER):
            for key in keys:
                while True:
                    try:
                        boarded = await pod.board(key)
                    except Unavailable:
                        await asyncio.sleep(0.1)
                        continue
                    break
                assert isinstance(boarded, Found)
                assert boarded.kept.key == key


async def test_a_url_that_is_none_is_as_if_there_were_no_redis() -> None:
    for url in (None, "", "nonsense", "http://redis"):
        pod = Store(lambda url=url: url, owner="a/b/c", ttl_seconds=1)
        with pytest.raises(Unavailable):
            await pod.ask("k", token="t", too_old="")
        await pod.close()
