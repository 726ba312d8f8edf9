"""Which runs can be cancelled, and what whoever does it is told."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from agentservice_runtime.active import ActiveRuns, chosen_id
from agentservice_runtime.errors import ServiceError
from agentservice_runtime.runlog import RunRecord


def record(run_id: str = "r", caller: str | None = "web") -> RunRecord:
    return RunRecord(run_id=run_id, trace_id="t", began=0, caller=caller)


async def asked(run: RunRecord) -> None:
    while not run.cancellation.cancelled:  # noqa: ASYNC110  there is no event to wait for
        await asyncio.sleep(0)


async def refused(work) -> int:
    with pytest.raises(ServiceError) as caught:
        await work
    return caught.value.problem.status


async def test_whoever_cancels_is_told_when_the_run_has_ended_and_again_when_asking_twice():
    runs, mine, begun = ActiveRuns(), record(), asyncio.Event()

    async def run():
        with runs.entered(mine):
            begun.set()
            await asked(mine)

    task = asyncio.create_task(run())
    await begun.wait()
    assert await refused(runs.cancel("r", caller="batch")) == 404
    assert not mine.cancellation.cancelled
    assert await runs.cancel("r", caller="web")
    await task
    assert await runs.cancel("r", caller="web")


async def test_a_run_that_holds_on_is_told_to_be_ending():
    runs, mine = ActiveRuns(stop_seconds=0.01), record()
    with runs.entered(mine):
        assert not await runs.cancel("r", caller="web")
        assert mine.cancellation.cancelled


async def test_a_run_that_was_faster_than_its_cancellation_is_no_longer_there():
    runs, mine = ActiveRuns(), record()
    with runs.entered(mine):
        asking = asyncio.create_task(runs.cancel("r", caller="web"))
        await asked(mine)
        mine.has_answered = True
    assert await refused(asking) == 404


async def test_cancelled_runs_are_forgotten_in_the_end_and_others_at_once():
    runs = ActiveRuns()
    for number in range(1_001):
        mine = record(str(number))
        with runs.entered(mine):
            mine.cancellation.cancel()
    assert await refused(runs.cancel("0", caller="web")) == 404
    assert await runs.cancel("1", caller="web")
    with runs.entered(record("plain")):
        pass
    assert await refused(runs.cancel("plain", caller="web")) == 404


async def test_one_caller_has_one_run_of_an_id():
    runs = ActiveRuns()
    with runs.entered(record()):
        with pytest.raises(ServiceError) as caught, runs.entered(record()):
            pass
        assert caught.value.problem.status == 409
        with runs.entered(record(caller=None)):
            pass
    with runs.entered(record()):
        pass


def test_a_chosen_id_is_a_uuid_in_any_of_its_forms():
    given = uuid.uuid4()
    assert chosen_id(str(given)) == chosen_id(given.hex.upper()) == given.hex
    for value in ("", "x", "0" * 31, f"{given}\n{given}"):
        with pytest.raises(ServiceError):
            chosen_id(value)
