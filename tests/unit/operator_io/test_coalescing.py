"""When the event loop rests, and for how long."""

import asyncio
import random
import time

import pytest

from agentservice_operator.manifest import Key
from agentservice_operator.queue import WorkQueue
from agentservice_operator.shell.coalescing import LONGEST_REST, MOST_TURNS, QUIET_SECONDS, QUIET_TURNS, Coalescing


class Crowd:
    """So many looks at the queue find somebody waiting. A turn of the loop takes ``turn_seconds``."""

    def __init__(self, looks: int, *, turn_seconds: float = QUIET_SECONDS / 2) -> None:
        self.looks = looks
        self.turn_seconds = turn_seconds
        self.rests: list[float] = []
        self._now = 0.0

    def is_waiting(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def clock(self) -> float:
        self._now += self.turn_seconds
        return self._now

    def coalescing(self, *, request_seconds: float = 0.02) -> Coalescing:
        made = Coalescing(is_waiting=self.is_waiting, rest=self.rests.append, clock=self.clock)
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
    await turns(10 * QUIET_TURNS)
    assert len(crowd.rests) == 3
    crowd.looks = 2
    coalescing.begin()
    await turns(10 * QUIET_TURNS)
    assert len(crowd.rests) == 4


async def test_when_nobody_waits_nothing_rests() -> None:
    crowd = Crowd(0)
    crowd.coalescing().begin()
    await turns(10 * QUIET_TURNS)
    assert crowd.rests == []


async def test_it_rests_once_at_the_end_of_all_that_could_be_done_however_often_it_is_begun() -> None:
    crowd = Crowd(1000)
    coalescing = crowd.coalescing()
    for _ in range(5):
        coalescing.begin()
    await turns(4 * QUIET_TURNS + 1)
    assert len(crowd.rests) == 4
    crowd.looks = 0
    await turns(QUIET_TURNS)


async def test_nothing_that_could_go_on_waits_for_a_rest() -> None:
    crowd = Crowd(1000)
    crowd.coalescing().begin()
    for _ in range(10):
        crowd.turn_seconds = QUIET_SECONDS / 2
        await turns(QUIET_TURNS - 1)
        crowd.turn_seconds = QUIET_SECONDS * 2
        await turns(1)
    assert crowd.rests == []
    crowd.looks = 0
    await turns(MOST_TURNS)


async def test_where_no_turn_is_short_it_rests_and_ends_all_the_same() -> None:
    crowd = Crowd(4, turn_seconds=1.0)
    crowd.coalescing().begin()
    await turns(10 * MOST_TURNS)
    assert len(crowd.rests) == 3
    assert crowd.looks == -1


@pytest.mark.parametrize(("request_seconds", "rest"), [(0.008, 0.004), (0.02, 0.01), (0.5, LONGEST_REST)])
async def test_a_rest_is_a_part_of_what_requests_take_and_never_long(request_seconds: float, rest: float) -> None:
    crowd = Crowd(2)
    crowd.coalescing(request_seconds=request_seconds).begin()
    await turns(3 * QUIET_TURNS)
    assert crowd.rests == [pytest.approx(rest, rel=0.01)]


async def test_of_a_queue_that_is_stopped_nobody_waits() -> None:
    queue = WorkQueue(clock=time.monotonic, random=random.random)
    queue.add(Key("ns", "a"))
    assert queue.is_waiting
    queue.stop()
    assert not queue.is_waiting
