"""The bound of the input, from what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from agentservice_runtime.meter.size import IMAGE_TOKENS, IMAGE_TOKENS_ELSEWHERE, Sizer

NOTHING = ModelRequestParameters()


def size(*parts: Any, parameters: ModelRequestParameters = NOTHING, system: str = "openai") -> Any:
    return Sizer().measure([ModelRequest(parts=list(parts))], parameters, system=system)


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=10), st.text(max_size=50), max_size=5))
def test_every_byte_that_is_sent_is_in_the_bound(text: str, args: dict[str, str]) -> None:
    text = text.encode("utf-8", "ignore").decode()
    messages: list[ModelMessage] = [
        ModelRequest(parts=[SystemPromptPart(text), UserPromptPart([text, text])], instructions=text),
        ModelResponse(parts=[TextPart(text), ThinkingPart(text, signature=text), ToolCallPart("look", args)]),
        ModelRequest(parts=[ToolReturnPart("look", args, "1"), ToolReturnPart("look", text, "2")], instructions=text),
    ]
    sent = 8 * len(text.encode()) + 2 * len(json.dumps(args, ensure_ascii=False).encode())
    assert Sizer().measure(messages, NOTHING, system="openai").tokens >= sent


def test_only_the_last_instructions_are_sent() -> None:
    once = ModelRequest(parts=[UserPromptPart("x")], instructions="i" * 10_000)
    assert 10_000 < Sizer().measure([once], NOTHING, system="openai").tokens < 11_000
    assert Sizer().measure([once, once, once], NOTHING, system="openai").tokens < 11_000


def test_tools_and_the_schema_of_the_output_count() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "description": "d" * 3_000}}}
    tool = ToolDefinition(name="look", description="e" * 2_000, parameters_json_schema=schema)
    both = ModelRequestParameters(function_tools=[tool], output_tools=[tool])
    assert size(parameters=both).tokens - size().tokens > 10_000


def test_a_schema_is_measured_once_and_another_one_for_itself() -> None:
    sizer, message = Sizer(), [ModelRequest(parts=[UserPromptPart("x")])]
    found: list[int] = []
    for length in (10, 1_000, 10):
        tool = ToolDefinition(name="look", parameters_json_schema={"type": "object", "title": "t" * length})
        parameters = ModelRequestParameters(function_tools=[tool])
        found.append(sizer.measure(message, parameters, system="openai").tokens)
        assert sizer.measure(message, parameters, system="openai").tokens == found[-1]
    assert found[0] == found[2] == found[1] - 990


@pytest.mark.parametrize("content", [ImageUrl("https://x/y.png"), BinaryContent(b"x", media_type="image/png")])
def test_an_image_counts_as_the_most_that_its_provider_bills_wherever_it_stands(content: Any) -> None:
    before = size(UserPromptPart(["x"])).tokens
    assert size(UserPromptPart(["x", content])).tokens >= before + IMAGE_TOKENS_ELSEWHERE
    assert size(ToolReturnPart("look", ["x", {"a": "b"}, content], "1")).tokens >= IMAGE_TOKENS_ELSEWHERE
    anthropic = size(UserPromptPart(["x", content]), system="anthropic").tokens
    assert IMAGE_TOKENS["anthropic"] <= anthropic < IMAGE_TOKENS_ELSEWHERE


def test_audio_counts_by_its_bytes() -> None:
    second = b"x" * 750  # of the smallest that is in use
    found = size(UserPromptPart([BinaryContent(second, media_type="audio/ogg")]))
    assert found.unbounded is None
    assert found.tokens - size(UserPromptPart([])).tokens >= 32


@pytest.mark.parametrize(
    "content",
    [
        VideoUrl("https://x/y.mp4"),
        AudioUrl("https://x/y.mp3"),
        DocumentUrl("https://x/y.pdf"),
        UploadedFile(file_id="f", provider_name="openai"),
        BinaryContent(b"x", media_type="application/pdf"),
        BinaryContent(b"x", media_type="video/mp4"),
    ],
    ids=lambda content: f"{type(content).__name__} {content.media_type}",
)
def test_what_no_byte_bounds_is_named(content: Any) -> None:
    assert size(UserPromptPart(["x", content])).unbounded
    assert size(ToolReturnPart("look", content, "1")).unbounded


def test_thoughts_that_the_provider_keeps_are_read_again() -> None:
    thought = ModelResponse(parts=[ThinkingPart("", id="rs_1")], usage=RequestUsage(output_reasoning_tokens=5_000))
    assert Sizer().measure([thought], NOTHING, system="openai").tokens > 5_000
