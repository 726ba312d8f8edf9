"""What is held back of requests as they are sent, and which settings are refused before."""

from __future__ import annotations

from typing import Any

import pytest

from agentservice_runtime.meter.settings import refused_setting
from agentservice_runtime.meter.wire import Expected, parse, text_bytes, violation

OPENAI: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hello"}],
    "max_completion_tokens": 100,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"n": 8, "max_tokens": 9_999}}}],
    "n": 1,
    "service_tier": "default",
}
RESPONSES: dict[str, Any] = {"model": "m", "input": [], "max_output_tokens": 100, "tools": [{"type": "function"}]}
ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "messages": [],
    "max_tokens": 100,
    "tools": [{"name": "f", "input_schema": {}}, {"type": "memory_20250818", "name": "memory"}],
    "service_tier": "standard_only",
}
GOOGLE: dict[str, Any] = {
    "contents": [],
    "generationConfig": {"maxOutputTokens": 100, "candidateCount": 1},
    "tools": [{"functionDeclarations": []}],
}
GOOGLE_PATH = "/v1beta/models/m:generateContent"
ALLOWED = [(OPENAI, "/"), (RESPONSES, "/"), (ANTHROPIC, "/"), (GOOGLE, GOOGLE_PATH)]


def check(body: dict[str, Any], *, path: str = "/", cap: int = 100, billed: bool = False) -> str | None:
    return violation(body, path=path, expected=Expected("m", cap, 1_000, billed))


@pytest.mark.parametrize(("body", "path"), ALLOWED, ids=["openai", "responses", "anthropic", "google"])
def test_a_request_within_its_bound_passes_and_one_without_a_cap_or_above_it_does_not(
    body: dict[str, Any], path: str
) -> None:
    assert check(body, path=path) is None
    assert check(body, path=path, cap=99)
    without = {key: value for key, value in body.items() if "max_" not in key and key != "generationConfig"}
    assert check(without, path=path) == "no output cap"


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"best_of": 4},
        {"max_tokens": 101},
        {"max_tokens": "100"},
        {"num_predict": -1},
        {"options": {"num_predict": 5_000}},
        {"model": "n"},
        {"models": ["n"]},
        {"service_tier": "priority"},
        {"serviceTier": {"type": "priority"}},
        {"speed": "fast"},
        {"previous_response_id": "r"},
        {"conversation": "c"},
        {"prompt": {"id": "p"}},
        {"background": True},
        {"prediction": {"content": "x"}},
        {"cachedContent": "c"},
        {"context_management": {}},
        {"modalities": ["text", "audio"]},
        {"generation_config": {"candidate_count": 2}},
    ],
    ids=str,
)
def test_what_may_cost_more_is_named(more: dict[str, Any]) -> None:
    [(name, value)] = more.items()
    inner = next(iter(value)) if name in ("options", "generation_config") else None
    assert check({**OPENAI, **more}, billed=True) == (f"{name}.{inner}" if inner else name)


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "code_interpreter"},
        {"type": "mcp"},
        {"googleSearch": {}},
        {"functionDeclarations": [], "codeExecution": {}},
    ],
    ids=str,
)
def test_a_tool_that_the_provider_bills_is_held_back_under_a_limit_in_dollars_only(tool: dict[str, Any]) -> None:
    assert check({**OPENAI, "tools": [tool]}) == "tools"
    assert check({**OPENAI, "tools": [tool]}, billed=True) is None


def test_another_model_in_the_path_is_seen() -> None:
    assert check(GOOGLE, path="/v1beta/models/gemini-ultra:generateContent") == "another model"


def test_the_bytes_of_a_body_are_those_of_its_texts_and_not_of_its_files() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9_000}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "ä" * 500}, image]}]}
    assert 1_000 <= text_bytes(body) < 1_200


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"grant_type": "x"}'])
def test_a_body_that_is_no_model_request_is_left_alone(content: bytes) -> None:
    assert parse(content) is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"extra_body": {"n": 8}}, "extra_body.n"),
        ({"extra_body": {"best_of": 3}}, "extra_body.best_of"),
        ({"extra_body": {"generationConfig": {"candidateCount": 4}}}, "extra_body.generationConfig.candidateCount"),
        ({"extra_body": {"maxTokens": 5}}, "extra_body.maxTokens"),
        ({"extra_body": "x"}, "extra_body that is not a map"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"openai_service_tier": "scale"}, "openai_service_tier"),
        ({"bedrock_service_tier": {"type": "priority"}}, "bedrock_service_tier"),
        ({"google_cloud_service_tier": "pt_then_priority"}, "google_cloud_service_tier"),
        ({"openai_previous_response_id": "auto"}, "openai_previous_response_id"),
        ({"openai_transport": "websocket"}, "openai_transport=websocket"),
        ({"anthropic_speed": "fast"}, "anthropic_speed=fast"),
        ({"bedrock_additional_model_requests_fields": {"max_tokens": 5}},
         "bedrock_additional_model_requests_fields.max_tokens"),
        ({"extra_headers": {"X-Vertex-AI-LLM-Shared-Request-Type": "priority"}},
         "extra_headers.X-Vertex-AI-LLM-Shared-Request-Type"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_no_bound_holds_for_is_named(settings: dict[str, Any], named: str) -> None:
    assert refused_setting(settings) == named


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_tokens": 5, "temperature": 0.2},
        {"service_tier": "flex", "openai_transport": "http", "openai_background": False},
        {"extra_body": {"top_k": 5, "n": 1, "service_tier": "auto", "guided_json": {"n": 8, "max_tokens": 9}}},
        {"extra_headers": {"X-Team": "a"}},
    ],
    ids=str,
)
def test_other_settings_pass(settings: dict[str, Any]) -> None:
    assert refused_setting(settings) is None
