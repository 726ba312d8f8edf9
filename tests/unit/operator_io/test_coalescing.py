"""When the event loop rests, and for how long."""

import asyncio
import random
import time

import pytest

from agentservice_operator.manifest import Key
from agentservice_operator.queue import WorkQueue
from agentservice_operator.shell.coalescing import LONGEST_REST, TURNS, Coalescing


class Crowd:
    """So many looks at the queue find somebody waiting."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.rests: list[float] = []

    def is_waiting(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def coalescing(self, *, request_seconds: float = 0.02) -> Coalescing:
        made = Coalescing(is_waiting=self.is_waiting, rest=self.rests.append)
        for _ in range(200):
            made.saw(request_seconds)
        return made


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_it_rests_as_long_as_anybody_waits_and_begins_again_with_the_next_crowd() -> None:
    crowd = Crowd(4)
    coalescing = crowd.coalescing()
    coalescing.begin()
    await turns(10 * TURNS)
    assert len(crowd.rests) == 3
    crowd.looks = 2
    coalescing.begin()
    await turns(10 * TURNS)
    assert len(crowd.rests) == 4


async def test_when_nobody_waits_nothing_rests() -> None:
    crowd = Crowd(0)
    crowd.coalescing().begin()
    await turns(10 * TURNS)
    assert crowd.rests == []


async def test_between_two_rests_an_answer_has_the_turns_to_become_a_request_however_often_it_is_begun() -> None:
    crowd = Crowd(1000)
    coalescing = crowd.coalescing()
    for _ in range(5):
        coalescing.begin()
    await turns(4 * TURNS + 1)
    assert len(crowd.rests) == 4
    crowd.looks = 0
    await turns(TURNS)


@pytest.mark.parametrize(("request_seconds", "rest"), [(0.008, 0.004), (0.02, 0.01), (0.5, LONGEST_REST)])
async def test_a_rest_is_a_part_of_what_requests_take_and_never_long(request_seconds: float, rest: float) -> None:
    crowd = Crowd(2)
    crowd.coalescing(request_seconds=request_seconds).begin()
    await turns(3 * TURNS)
    assert crowd.rests == [pytest.approx(rest, rel=0.01)]


async def test_of_a_queue_that_is_stopped_nobody_waits() -> None:
    queue = WorkQueue(clock=time.monotonic, random=random.random)
    queue.add(Key("ns", "a"))
    assert queue.is_waiting
    queue.stop()
    assert not queue.is_waiting
