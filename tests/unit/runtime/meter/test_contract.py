"""What the meter relies on in pydantic-ai and in the providers' clients. When one of these fails, read what has changed first."""

import inspect
import typing
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models import Model, StreamedResponse
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.models.concurrency import ConcurrencyLimitedModel
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.instrumented import InstrumentedModel
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIChatModelSettings,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.native_tools import NATIVE_TOOL_TYPES
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage
from tests.unit.runtime.meter.memory_ledger import MemoryLedger, meter_over

from agentservice_api.budget import LedgerSpec, WindowLimit
from agentservice_runtime.meter import settings as words
from agentservice_runtime.meter import wire
from agentservice_runtime.meter.boundary import metering

HARD = LedgerSpec(windows=(WindowLimit(name="daily", tokens=1_000_000),))


def test_a_model_sends_requests_by_these_two_methods_with_these_arguments() -> None:
    asked = ["self", "messages", "model_settings", "model_request_parameters"]
    assert list(inspect.signature(Model.request).parameters) == asked
    assert list(inspect.signature(Model.request_stream).parameters) == [*asked, "run_context"]
    for cls in (OpenAIChatModel, OpenAIResponsesModel, AnthropicModel, TestModel):
        assert inspect.iscoroutinefunction(vars(cls)["request"])
        assert inspect.isfunction(vars(cls)["request_stream"])


def test_a_model_that_hands_its_requests_on_says_so() -> None:
    routers = (WrapperModel, FallbackModel, ConcurrencyLimitedModel, InstrumentedModel)
    assert [cls._answers_requests_itself for cls in routers] == [False] * 4
    for cls in (OpenAIChatModel, OpenAIResponsesModel, AnthropicModel, TestModel):
        assert cls._answers_requests_itself


def test_pydantic_ai_wraps_the_same_methods_of_each_subclass_so_ours_may() -> None:
    source = inspect.getsource(Model.__init_subclass__) + inspect.getsource(Model)
    assert "cls.request = restoring_request" in source
    assert "cls.request_stream = restoring_request_stream" in source


async def test_a_model_class_that_is_made_later_is_metered_too() -> None:
    ledger = MemoryLedger(spec=HARD)
    meter = await meter_over(ledger)
    with metering(meter):

        class Late(Model[Any]):
            model_name = "late"
            system = "late"

            async def request(self, messages: Any, model_settings: Any, model_request_parameters: Any) -> ModelResponse:
                usage = RequestUsage(input_tokens=5, output_tokens=3)
                return ModelResponse(parts=[TextPart("x")], usage=usage, model_name="late")

            @asynccontextmanager
            async def request_stream(self, *arguments: Any, **more: Any) -> AsyncGenerator[StreamedResponse]:
                raise NotImplementedError
                yield

        await Agent(Late()).run("hello")
    await meter.desk.close()
    assert ledger.spent.tokens == 8


def test_usage_tells_when_it_was_not_told() -> None:
    assert RequestUsage().unmeasured_requests == 0
    assert RequestUsage().output_reasoning_tokens == 0
    assert ModelResponse(parts=[]).state == "complete"
    assert "incomplete" in typing.get_args(typing.get_type_hints(ModelResponse)["state"])
    assert callable(StreamedResponse.get)


@pytest.mark.parametrize("client", [AsyncOpenAI(api_key="x"), AsyncAnthropic(api_key="x")], ids=["openai", "anthropic"])
def test_the_http_client_of_a_provider_is_found_and_tells_of_each_request(client: Any) -> None:
    async def hook(request: Any) -> None: ...

    assert wire.watch(client, hook)
    assert wire.watch(client, hook)
    assert client._client.event_hooks["request"].count(hook) == 1


async def test_a_request_of_the_http_client_shows_its_body_and_may_be_held_back() -> None:
    seen: list[bytes | None] = []

    async def hook(request: Any) -> None:
        seen.append(wire.body_of(request))
        raise PermissionError

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200))
    async with httpx2.AsyncClient(transport=transport, event_hooks={"request": [hook]}) as client:
        with pytest.raises(PermissionError):
            await client.post("http://x/v1/chat/completions", json={"messages": []})
    assert seen == [b'{"messages":[]}']


def test_every_setting_of_a_model_has_been_judged_whether_it_may_cost_more_than_its_bound() -> None:
    found: set[str] = set()
    for kind in (ModelSettings, OpenAIChatModelSettings, OpenAIResponsesModelSettings, AnthropicModelSettings):
        found |= set(typing.get_type_hints(kind))
    refused = words.REFUSED_SETTINGS | words.REFUSED_VALUES.keys() | {*words.TIER_SETTINGS}
    looked_at = {"extra_body", "extra_headers", "max_tokens", "max_retries", "thinking"}
    assert found - refused - looked_at == JUDGED_HARMLESS


def test_every_native_tool_has_been_judged_whether_its_provider_bills_it() -> None:
    billed = set(NATIVE_TOOL_TYPES) - words.FREE_NATIVE_TOOLS
    assert billed == {
        *("advisor", "code_execution", "file_search", "image_generation", "mcp_server", "web_fetch", "web_search"),
        "x_search",
    }


JUDGED_HARMLESS = {
    # of every provider: they shape an answer within its cap
    *("cache", "citations", "first_event_timeout", "framing_announcement", "frequency_penalty", "logit_bias"),
    *("parallel_tool_calls", "presence_penalty", "request_timeout", "seed", "stop_sequences", "temperature", "timeout"),
    *("tool_choice", "top_k", "top_p"),
    # OpenAI: caches cost what the dearest rate of the input says; reasoning is output within its cap
    *("openai_cache_instructions", "openai_prompt_cache_diagnostics", "openai_prompt_cache_key"),
    *("openai_prompt_cache_options", "openai_prompt_cache_retention", "openai_reasoning_context"),
    *("openai_reasoning_effort", "openai_reasoning_summary", "openai_send_reasoning_ids", "openai_truncation"),
    # OpenAI: what is told about an answer, or kept of it
    *("openai_continuous_usage_stats", "openai_include_code_execution_outputs", "openai_include_file_search_results"),
    *("openai_include_raw_annotations", "openai_include_unmapped_response_data", "openai_include_web_search_sources"),
    *("openai_logprobs", "openai_moderation", "openai_store", "openai_text_verbosity", "openai_top_logprobs"),
    "openai_user",
    # Anthropic
    *("anthropic_betas", "anthropic_cache", "anthropic_cache_diagnostics", "anthropic_cache_instructions"),
    *("anthropic_cache_messages", "anthropic_cache_tool_definitions", "anthropic_code_execution_tool_version"),
    *("anthropic_eager_input_streaming", "anthropic_effort", "anthropic_metadata", "anthropic_task_budget"),
    *("anthropic_thinking", "anthropic_web_tools_allowed_callers"),
}
