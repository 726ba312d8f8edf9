"""How a run is worded for OpenAI's clients, and which of their fields mean something."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsBase,
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from pydantic_ai import RunUsage
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta, ThinkingPart, ToolCallPart

from agentservice_runtime.chat.answer import ChatTelling, ChatWording
from agentservice_runtime.chat.request import IGNORED, OBEYED, REFUSED
from agentservice_runtime.errors import INTERNAL
from agentservice_runtime.runner import Answer

WORDING = ChatWording(model="support", run_id="r", created=1)


def answer(output: Any) -> Answer:
    return Answer(run_id="r", output=output, usage=RunUsage(input_tokens=2), cost_usd="0.1", model="m")


def chunks(told: list[bytes | None]) -> list[dict[str, Any]]:
    lines = b"".join(part for part in told if part).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def said(told: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in told if c["choices"])


def test_every_field_of_the_sdk_is_obeyed_ignored_or_refused_and_no_other_is_known():
    groups = (CompletionCreateParamsBase, CompletionCreateParamsNonStreaming, CompletionCreateParamsStreaming)
    known = {name for group in groups for name in group.__annotations__}
    assert OBEYED | IGNORED | REFUSED.keys() == known
    assert not OBEYED & IGNORED
    assert not (OBEYED | IGNORED) & REFUSED.keys()


def test_what_is_said_before_a_tool_is_called_stands_apart_from_the_answer():
    telling = ChatTelling(WORDING, is_text=True, include_usage=False)
    events = [
        PartStartEvent(index=0, part=ThinkingPart("hidden")),
        PartStartEvent(index=1, part=TextPart("Let me ")),
        PartDeltaEvent(index=1, delta=TextPartDelta("look.")),
        PartStartEvent(index=2, part=ToolCallPart("lookup", {"hidden": 1})),
        PartStartEvent(index=0, part=TextPart("")),
        PartDeltaEvent(index=0, delta=TextPartDelta("It is ")),
        PartDeltaEvent(index=0, delta=TextPartDelta("there.")),
        PartStartEvent(index=1, part=TextPart(" Really.")),
    ]
    told = chunks([*map(telling.event, events), telling.result(answer("It is there. Really."))])
    assert said(told) == "Let me look.\n\nIt is there. Really."
    assert [c["choices"][0]["delta"].get("role") for c in told] == ["assistant", *[None] * (len(told) - 1)]
    assert not any("usage" in c for c in told)


@pytest.mark.parametrize("output", [{"a": [1, "é"]}, "", "only at the end"])
def test_what_was_not_told_on_the_way_is_told_at_the_end(output):
    telling = ChatTelling(WORDING, is_text=False, include_usage=True)
    events = [PartStartEvent(index=0, part=TextPart("commentary"))]
    told = chunks([*map(telling.event, events), telling.result(answer(output))])
    assert said(told) == (output if isinstance(output, str) else '{"a":[1,"é"]}')
    assert [c["usage"] and c["usage"]["prompt_tokens"] for c in told] == [None, None, 2]


def test_the_documents_are_openais():
    telling = ChatTelling(WORDING, is_text=True, include_usage=True)
    for document in chunks([telling.result(answer("x"))]):
        ChatCompletionChunk.model_validate(document, strict=True)
    ChatCompletion.model_validate(WORDING.completion(answer("x")), strict=True)
    assert telling.error(INTERNAL).startswith(b'data: {"error":')
