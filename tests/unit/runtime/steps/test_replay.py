"""Runs that are cut off and made again: what was written is read, and nothing of it is asked, called or counted twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pydantic import BaseModel, Field
from pydantic_ai import Agent, BinaryContent, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.run import AgentRunResultEvent
from pydantic_ai.usage import RequestUsage

from agentservice_runtime.cache.outcome import Note
from agentservice_runtime.errors import ServiceError
from agentservice_runtime.ledger.interface import Bill
from agentservice_runtime.meter.account import Charge
from agentservice_runtime.postgres import Away
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.runner import told_of
from agentservice_runtime.steps.capability import RunSteps
from agentservice_runtime.steps.journal import LOST, UNAVAILABLE, Journals
from agentservice_runtime.steps.store import Lost, StepStore

TASK = {"created": 1}


class Killed(BaseException):
    """The process dies here."""


@dataclass
class MemoryStore:
    """What `StepStore` promises, without a database."""

    rows: dict[tuple[str, int, str], tuple[str, bytes]] = field(default_factory=dict[Any, Any])
    fences: dict[str, int] = field(default_factory=dict[str, int])
    away: int = 0
    """So many questions are not answered."""

    def _asked(self, task: str, fence: int) -> None:
        if self.away:
            self.away -= 1
            raise Away("ConnectionRefusedError")
        if self.fences.get(task, fence) > fence:
            raise Lost

    async def open(self, task: str, *, fence: int) -> dict[tuple[int, str], str]:
        self._asked(task, fence)
        self.fences[task] = fence
        return {(number, call): digest for (of, number, call), (digest, _) in self.rows.items() if of == task}

    async def read(self, task: str, *, number: int, call: str) -> bytes | None:
        self._asked(task, self.fences[task])
        return self.rows[task, number, call][1]

    async def write(self, task: str, *, fence: int, number: int, call: str, digest: str, body: bytes) -> None:
        self._asked(task, fence)
        self.rows[task, number, call] = (digest, body)

    async def discard(self, task: str, *, fence: int, number: int) -> None:
        self._asked(task, fence)
        self.rows = {key: row for key, row in self.rows.items() if key[0] != task or key[1] < number}


class World:
    """An agent of which runs are made one after another, each as an attempt of one task."""

    def __init__(self, *, answers: int = 3) -> None:
        self.store = MemoryStore()
        self.answers = answers
        self.asked: list[int] = []
        self.called: list[str] = []
        self.attempt = 0
        self.instructions = "Be brief."
        self.tool: Callable[[int], Awaitable[Any]] = self.seen
        self.records: list[RunRecord] = []

    async def seen(self, x: int) -> Any:
        return {"seen": x}

    def turn(self, messages: list[ModelMessage]) -> int | None:
        turns = sum(isinstance(m, ModelResponse) for m in messages)
        self.asked.append(turns)
        self.records[-1].account.charges.append(Charge(Bill("m", "p", 15, 1_000), True))
        return turns if turns < self.answers - 1 else None

    async def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = self.turn(messages)
        parts = [TextPart("done")] if turn is None else [ToolCallPart("look", {"x": turn}, tool_call_id="call_1")]
        return ModelResponse(parts=parts, usage=RequestUsage(input_tokens=10, output_tokens=5))

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        turn = self.turn(messages)
        if turn is None:
            yield "done"
        else:
            yield {0: DeltaToolCall(name="look", json_args=f'{{"x": {turn}}}', tool_call_id="call_1")}

    def agent(self) -> Agent[Any, str]:
        agent = Agent(
            FunctionModel(self.answer, stream_function=self._stream), instructions=self.instructions, retries=3
        )

        @agent.tool
        async def look(ctx: RunContext[Any], x: int) -> Any:  # pyright: ignore[reportUnusedFunction]
            self.called.append(f"{x}")
            return await self.tool(x)

        return agent

    async def steps(self) -> RunSteps:
        self.attempt += 1
        self.records.append(RunRecord(run_id=f"run-{self.attempt}", trace_id="t", began=0.0, cache=Note()))
        journals = Journals(cast("StepStore", self.store), patience_seconds=0)
        journal = await journals.open("task", fence=self.attempt, **TASK)
        return RunSteps(journal=journal, record=self.records[-1])

    async def run(self) -> Any:
        steps = await self.steps()
        return await self.agent().run(
            "Hello", capabilities=[steps], usage=steps.record.usage, run_id=steps.record.run_id
        )

    async def stream(self) -> tuple[Any, list[Any]]:
        steps = await self.steps()
        found: list[Any] = []
        arguments: dict[str, Any] = {
            "capabilities": [steps],
            "usage": steps.record.usage,
            "run_id": steps.record.run_id,
        }
        async with self.agent().run_stream_events("Hello", **arguments) as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent):
                    return cast("Any", event).result, found
                found.append(event)
        raise AssertionError("no result")

    def dies_in(self, x: int) -> None:
        async def tool(at: int) -> Any:
            if at == x:
                raise Killed
            return await self.seen(at)

        self.tool = tool

    def lives(self) -> None:
        self.tool = self.seen


async def test_a_run_that_was_cut_off_in_its_third_step_goes_on_there_and_answers_as_one_that_was_not() -> None:
    whole = World(answers=4)
    expected = await whole.run()
    world = World(answers=4)
    world.dies_in(2)
    with pytest.raises(Killed):
        await world.run()
    world.lives()
    result = await world.run()
    assert result.output == expected.output == "done"
    assert [told_of(record) for record in world.records] == [None, "bypass"]
    assert world.asked == [0, 1, 2, 3]
    assert world.called == ["0", "1", "2", "2"]
    assert result.usage == expected.usage
    assert result.usage.requests == 4
    assert result.usage.tool_calls == 3
    record = world.records[-1]
    # what callers are told is the whole, what this process has used is what came after
    assert record.account.cost_usd == whole.records[-1].account.cost_usd == "0.000004"
    assert (record.replayed.requests, record.replayed.input_tokens) == (3, 30)
    assert record.replayed_usd * 10**9 == 3_000
    kinds = [[type(part).__name__ for part in m.parts] for m in result.all_messages()]
    assert kinds == [[type(part).__name__ for part in m.parts] for m in expected.all_messages()]


async def test_a_streamed_run_goes_on_in_the_same_way_and_tells_of_what_it_reads() -> None:
    world = World()
    world.dies_in(1)
    with pytest.raises(Killed):
        await world.stream()
    world.lives()
    result, events = await world.stream()
    assert (result.output, world.asked, world.called) == ("done", [0, 1, 2], ["0", "1", "1"])
    assert sum(type(event).__name__ == "FunctionToolResultEvent" for event in events) == 2
    # a streamed run may be gone on with by one that is not
    assert (await world.run()).output == "done"
    assert world.asked == [0, 1, 2]


async def test_a_run_that_had_ended_is_answered_without_asking_anybody() -> None:
    world = World()
    first = await world.run()
    again = await world.run()
    assert (again.output, again.usage) == (first.output, first.usage)
    assert (world.asked, world.called) == ([0, 1, 2], ["0", "1"])


async def test_what_is_asked_otherwise_is_asked_anew_from_there_on() -> None:
    world = World()
    await world.run()
    world.instructions = "Be long."
    await world.run()
    assert (world.asked, world.called) == ([0, 1, 2, 0, 1, 2], ["0", "1", "0", "1"])
    # and what was written last is what counts
    await world.run()
    assert len(world.asked) == 6


async def test_words_to_the_model_are_read_too_and_count_as_retries() -> None:
    world = World()

    async def refuse(x: int) -> Any:
        raise ModelRetry(f"not {x}") if x == 0 else Killed

    world.tool = refuse
    with pytest.raises(Killed):
        await world.run()
    world.lives()
    result = await world.run()
    assert (world.asked, world.called) == ([0, 1, 2], ["0", "1", "1"])
    returns = [
        p
        for m in result.all_messages()
        if isinstance(m, ModelRequest)
        for p in m.parts
        if isinstance(p, ToolReturnPart)
    ]
    assert [part.outcome for part in returns] == ["retried", "success"]
    assert "not 0" in returns[0].model_response_str()


async def test_a_result_that_is_no_json_is_called_for_again_and_the_model_is_not_asked_again_if_it_is_the_same() -> (
    None
):
    world = World()

    async def picture(x: int) -> Any:
        if x == 1:
            raise Killed
        return BinaryContent(data=b"picture", media_type="image/png")

    world.tool = picture
    with pytest.raises(Killed):
        await world.run()
    world.tool = world.seen
    await world.run()
    # another result: what was answered to the picture counts no more
    assert (world.asked, world.called) == ([0, 1, 1, 2], ["0", "1", "0", "1"])


class Order(BaseModel):
    number: int = Field(serialization_alias="orderNumber")
    at: datetime


async def test_a_result_that_is_an_object_is_asked_about_in_the_same_words_by_a_run_that_reads_it() -> None:
    world = World()

    async def order(x: int) -> Any:
        if x == 1:
            raise Killed
        return [Order(number=x, at=datetime(2026, 11, 26, tzinfo=UTC))]

    world.tool = order
    with pytest.raises(Killed):
        await world.run()
    world.lives()
    await world.run()
    assert (world.asked, world.called) == ([0, 1, 2], ["0", "1", "1"])


async def test_after_a_step_that_is_too_large_nothing_more_is_written() -> None:
    world = World()

    async def large(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = world.turn(messages)
        text = TextPart("x" * 2_000_000)
        parts = [TextPart("done")] if turn is None else [text, ToolCallPart("look", {"x": turn}, tool_call_id="call_1")]
        return ModelResponse(parts=parts)

    world.answer = large
    assert (await world.run()).output == "done"
    assert not world.store.rows


async def test_agents_inside_of_a_tool_are_a_part_of_its_step_and_of_the_usage_that_is_told() -> None:
    world = World()
    inner: list[int] = []

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        inner.append(1)
        return ModelResponse(parts=[TextPart("inner")], usage=RequestUsage(input_tokens=100, output_tokens=50))

    async def ask(x: int) -> Any:
        if x == 1:
            raise Killed
        usage = world.records[-1].usage
        return (await Agent(FunctionModel(answer)).run("Hi", usage=usage)).output

    world.tool = ask
    with pytest.raises(Killed):
        await world.run()
    world.lives()
    result = await world.run()
    assert len(inner) == 1
    assert (result.usage.requests, result.usage.input_tokens, result.usage.output_tokens) == (4, 130, 65)


async def test_a_step_that_cannot_be_written_ends_the_attempt_as_one_that_may_be_made_again() -> None:
    world = World()

    async def then_away(x: int) -> Any:
        world.store.away = 1
        return await world.seen(x)

    world.tool = then_away
    with pytest.raises(ServiceError) as told:
        await world.run()
    assert told.value.problem is UNAVAILABLE
    assert told.value.problem.retryable
    world.lives()
    assert (await world.run()).output == "done"
    assert (world.asked, world.called) == ([0, 1, 2], ["0", "0", "1"])


async def test_an_attempt_that_a_later_one_has_taken_over_writes_nothing_more() -> None:
    world = World()

    async def taken_over(x: int) -> Any:
        await world.steps()
        return await world.seen(x)

    world.tool = taken_over
    with pytest.raises(ServiceError) as told:
        await world.run()
    assert told.value.problem is LOST
    assert [number for _, number, _ in world.store.rows] == [1]
