"""Which answers are kept, and what is given again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import (
    FinishReason,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.run import AgentRunResult

from agentservice_runtime.cache.outcome import NotKept
from agentservice_runtime.cache.replay import Kept, kept, tools_called

KEY = "k" * 64
OUTPUT = frozenset({"final_result"})


async def result(response: ModelResponse, output: Any = str) -> AgentRunResult[Any]:
    agent: Agent[None, Any] = Agent(FunctionModel(lambda _messages, _info: response), output_type=output)
    return await agent.run("hello")


async def test_what_is_kept_is_the_answer_without_thoughts_usage_and_other_tools() -> None:
    thought, looked = ThinkingPart("hm"), ToolCallPart("look", {})
    found = await result(ModelResponse(parts=[thought, ToolCallPart("final_result", {"response": {"a": 1}}), looked]), dict[str, int])  # fmt: skip
    answer = kept(found, key=KEY, tokens=7, output_tools=OUTPUT)
    assert isinstance(answer, Kept)
    again = Kept.decode(answer.encode(), key=KEY)
    assert again is not None
    assert (again.tokens, again.response.usage.total_tokens) == (7, 0)
    assert [part.part_kind for part in again.response.parts] == ["tool-call"]
    assert (await result(again.response, dict[str, int])).output == found.output == {"a": 1}


@pytest.mark.parametrize("reason", ["length", "content_filter", "error"])
async def test_an_answer_that_is_not_whole_is_not_kept(reason: FinishReason) -> None:
    found = await result(ModelResponse(parts=[TextPart("Once upon")], finish_reason="stop"))
    assert isinstance(kept(found, key=KEY, tokens=1, output_tools=OUTPUT), Kept)
    found.response.finish_reason = reason
    assert kept(found, key=KEY, tokens=1, output_tools=OUTPUT) is NotKept.CUT


async def test_a_call_that_waits_for_approval_is_no_answer() -> None:
    agent: Agent[None, Any] = Agent(
        FunctionModel(lambda _messages, _info: ModelResponse(parts=[ToolCallPart("pay", {})])),
        output_type=[str, DeferredToolRequests],
    )

    @agent.tool_plain(requires_approval=True)
    def pay() -> None: ...

    found = await agent.run("hello")
    assert kept(found, key=KEY, tokens=1, output_tools=OUTPUT) is NotKept.NO_ANSWER


def test_tools_that_the_provider_runs_count_as_called_too() -> None:
    response = ModelResponse(
        parts=[
            ToolCallPart("look", {}),
            ToolCallPart("final_result", {}),
            NativeToolCallPart("web_search", {}, tool_call_id="1"),
            NativeToolReturnPart("web_search", {}, tool_call_id="1"),
        ]
    )
    assert set(tools_called(response, output_tools=OUTPUT)) == {"look", "web_search"}


async def test_what_cannot_be_read_or_is_of_another_key_is_no_answer() -> None:
    answer = kept(await result(ModelResponse(parts=[TextPart("yes")])), key=KEY, tokens=1, output_tools=OUTPUT)
    assert isinstance(answer, Kept)
    assert Kept.decode(answer.encode(), key="other") is None
    for broken in (b"", b"{}", b"[]", b"null", answer.encode()[:-9], answer.encode().replace(b"response", b"request")):
        assert Kept.decode(broken, key=KEY) is None
