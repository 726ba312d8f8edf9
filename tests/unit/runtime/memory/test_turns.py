"""What of a conversation is kept and given to the next run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from agentservice_api.spec.agent import Limits
from agentservice_runtime.memory.turns import Turn, Unreadable, decode, encode, messages_at_most, newest, turn_of


def turn(number: int, *, steps: int = 0, text: str = "") -> Turn:
    """A turn that called ``steps`` tools."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(f"question {number}")])]
    for step in range(steps):
        call = f"{number}-{step}"
        messages.append(ModelResponse(parts=[ToolCallPart("look", {"x": step}, tool_call_id=call)]))
        messages.append(ModelRequest(parts=[ToolReturnPart("look", "seen", tool_call_id=call)]))
    messages.append(ModelResponse(parts=[TextPart(f"answer {number}{text}")]))
    return Turn(
        run_id=str(number),
        at=datetime(2026, 11, 26, tzinfo=UTC),
        prompt=f"question {number}",
        output=f"answer {number}{text}",
        messages=tuple(messages),
    )


def calls_and_returns(messages: Sequence[ModelMessage]) -> tuple[set[str], set[str]]:
    parts = [part for message in messages for part in message.parts]
    return (
        {part.tool_call_id for part in parts if isinstance(part, ToolCallPart)},
        {part.tool_call_id for part in parts if isinstance(part, ToolReturnPart)},
    )


@settings(max_examples=60, derandomize=True, deadline=None)
@given(steps=st.lists(st.integers(0, 4), max_size=8), most=st.integers(0, 24))
def test_the_newest_turns_are_given_whole_and_no_call_is_parted_from_its_return(steps: list[int], most: int) -> None:
    said = [turn(number, steps=count) for number, count in enumerate(steps)]
    kept = newest(said, messages=most)
    messages = [message for each in kept for message in each.messages]
    assert len(messages) <= most
    called, returned = calls_and_returns(messages)
    assert called == returned
    assert [each.run_id for each in kept] == [each.run_id for each in said][len(said) - len(kept) :]
    if said and most >= 2:
        assert kept, "the last question and its answer always fit"


def test_a_turn_that_is_too_long_by_itself_is_kept_as_its_question_and_its_answer() -> None:
    (kept,) = newest([turn(1), turn(2, steps=9)], messages=3)
    assert [type(message) for message in kept.messages] == [ModelRequest, ModelResponse]
    assert kept.prompt == "question 2"
    assert calls_and_returns(kept.messages) == (set(), set())


async def test_a_typed_answer_of_a_turn_that_is_too_long_keeps_its_call_with_its_return() -> None:
    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) < 7:
            return ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id=str(len(messages)))])
        return ModelResponse(parts=[ToolCallPart("final_result", {"response": {"a": 1}}, tool_call_id="last")])

    agent: Agent[None, Any] = Agent(FunctionModel(model), output_type=dict[str, int])

    @agent.tool_plain
    def look() -> str:
        return "seen"

    result = await agent.run("hello")
    whole = turn_of(run_id="1", said="hello", output=result.output, messages=result.new_messages())
    (kept,) = newest([whole], messages=3)
    assert calls_and_returns(kept.messages) == ({"last"}, {"last"})
    assert (await agent.run("again", message_history=list(kept.messages))).output == {"a": 1}


async def test_what_is_the_developers_is_not_kept_and_an_id_may_come_again() -> None:
    agent = Agent(TestModel(), instructions="Secret instructions.", system_prompt="Secret prompt.")
    result = await agent.run("hello", run_id="same")
    kept = turn_of(run_id="same", said="hello", output=result.output, messages=result.new_messages())
    body = encode([kept])
    assert b"Secret" not in body
    again = await agent.run("hello", run_id="same", message_history=list(decode(body)[0].messages))
    assert len(again.new_messages()) == 2


async def test_everything_that_a_turn_may_hold_comes_back_as_it_was() -> None:
    picture = BinaryContent(base64.b64decode("iVBORw0KGgo="), media_type="image/png")
    agent = Agent(TestModel())

    @agent.tool_plain
    def look() -> BinaryContent:
        return picture

    tried: list[int] = []

    @agent.tool_plain
    def fail(x: int) -> str:
        tried.append(x)
        if len(tried) == 1:
            raise ModelRetry("once more")
        return "done"

    result = await agent.run("Grüße, 世界")
    kept = turn_of(run_id="1", said="Grüße, 世界", output={"a": [1, None]}, messages=result.new_messages())
    body = encode([kept])
    (back,) = decode(body)
    assert encode([back]) == body
    assert [type(part) for message in back.messages for part in message.parts] == [
        type(part) for message in kept.messages for part in message.parts
    ]
    assert [each["content"] for each in back.shown()] == ["Grüße, 世界", {"a": [1, None]}]


def test_a_conversation_that_is_too_large_loses_its_oldest_turns() -> None:
    said = [turn(number, text="x" * 1_000) for number in range(10)]
    size = len(encode([said[0]]))
    kept = decode(encode(said, most=4 * size))
    assert [each.run_id for each in kept] == [str(n) for n in range(10)][-len(kept) :]
    assert 1 <= len(kept) < 5
    assert encode([turn(1, text="x" * 1_000)], most=500) == b""


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"v":2,"turns":[]}', b'{"v":1,"turns":[{"run_id":"1"}]}'])
def test_what_another_version_kept_is_told_from_what_can_be_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(body)


@pytest.mark.parametrize(("requests", "bound", "most"), [(50, 100, 50), (12, 100, 76), (1, 100, 98), (50, 2, 1)])
def test_a_run_has_room_for_its_own_messages(requests: int, bound: int, most: int) -> None:
    limits = Limits.model_validate({"requestsPerRun": requests, "maxConversationMessages": bound})
    assert messages_at_most(limits) == most
