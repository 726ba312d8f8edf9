"""The short way through OpenAI's SDK sends what the long way sends."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agentservice_runtime.openai_client import shorten

ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": '{"response": 7}'}, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28},
}
CHUNK = {
    "id": "c1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "seven"}, "finish_reason": "stop"}],
}
SETTINGS: dict[str, Any] = {
    "max_retries": 0,
    "max_tokens": 100,
    "temperature": 0.5,
    "seed": 7,
    "stop_sequences": ["END"],
    "timeout": 12.0,
    "extra_headers": {"x-team": "a"},
    "extra_body": {"verbosity": "low", "metadata": {"a": "b"}},
}


def lookup(order: int) -> str:
    """Look up an order."""
    return str(order)


class Found(BaseModel):
    response: int


class Sent:
    """What a provider received, and how it answers."""

    def __init__(self, *, answer: Any = ANSWER, chunk: Any = CHUNK) -> None:
        self.requests: list[httpx2.Request] = []
        self._answer, self._chunk = answer, chunk

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if json.loads(request.content)["stream"]:
            content = f"data: {json.dumps(self._chunk)}\n\ndata: [DONE]\n\n"
            return httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})
        return httpx2.Response(200, json=self._answer)


def agent(sent: Sent, *, is_short: bool, **options: Any) -> Agent[None, Any]:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(sent))
    provider = OpenAIProvider(base_url="http://model/v1", api_key="k", http_client=http)
    if is_short:
        shorten(provider.client)
    return Agent(OpenAIChatModel("gpt-4o-mini", provider=provider), instructions="Be brief.", **options)


def told(sent: Sent) -> list[tuple[Any, ...]]:
    unlike = {"x-stainless-retry-count"}
    return [
        (
            request.method,
            str(request.url),
            json.loads(request.content),
            {name: value for name, value in request.headers.items() if name not in unlike},
            request.extensions.get("timeout"),
        )
        for request in sent.requests
    ]


@pytest.mark.parametrize(
    "options",
    [{}, {"model_settings": SETTINGS}, {"tools": [lookup]}, {"output_type": NativeOutput(Found)}],
    ids=["plain", "with settings", "with a tool", "with a schema"],
)
async def test_the_short_way_sends_what_the_long_way_sends(options: dict[str, Any]) -> None:
    ways: list[list[tuple[Any, ...]]] = []
    for is_short in (False, True):
        sent = Sent()
        await agent(sent, is_short=is_short, **options).run("What is this?")
        ways.append(told(sent))
    assert len(ways[0]) == 1
    assert ways[0] == ways[1]


async def test_the_short_way_streams_what_the_long_way_streams() -> None:
    ways: list[tuple[Any, ...]] = []
    for is_short in (False, True):
        sent = Sent()
        async with agent(sent, is_short=is_short, model_settings=SETTINGS).run_stream("What is this?") as stream:
            texts = [text async for text in stream.stream_text(delta=True, debounce_by=None)]
        ways.append((texts, told(sent)))
    assert ways[0][0] == ["seven"]
    assert ways[0] == ways[1]


CALL = {"index": 0, "id": "t1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}


def differing(member: str, **said: Any) -> list[dict[str, Any]]:
    """Return what providers make of a choice, as its type says and not."""
    plain: dict[str, Any] = {"index": 0, member: said, "finish_reason": None if member == "delta" else "stop"}
    return [
        {"choices": [plain]},
        {"choices": [{**plain, "score": 1}], "provider": "x", "usage": None},
        {"choices": [{**plain, member: {**said, "reasoning_content": "hm", "tool_calls": [CALL]}}]},
        {"choices": [{**plain, "finish_reason": "of its own"}], "created": None},
        {"choices": [{**plain, "index": "0"}], "created": 1.5, "model": 7},
        {"choices": [{**plain, member: None}]},
        {"choices": None},
        {"usage": {"prompt_tokens": "20"}},
    ]


@pytest.mark.parametrize("told", differing("message", role="assistant", content="seven"))
async def test_an_answer_is_what_the_sdk_makes_of_it(told: dict[str, Any]) -> None:
    long, short = [await completions(is_short, answer={**ANSWER, **told}) for is_short in (False, True)]
    assert type(short) is type(long)
    assert (repr(short), short.to_dict(warnings=False)) == (repr(long), long.to_dict(warnings=False))


@pytest.mark.parametrize("told", differing("delta", content="seven"))
async def test_a_piece_of_a_stream_is_what_the_sdk_makes_of_it(told: dict[str, Any]) -> None:
    ways: list[list[Any]] = []
    for is_short in (False, True):
        ways.append([piece async for piece in await completions(is_short, stream=True, chunk={**CHUNK, **told})])
    (long,), (short,) = ways
    assert type(short) is type(long)
    assert (repr(short), short.to_dict(warnings=False)) == (repr(long), long.to_dict(warnings=False))


async def completions(is_short: bool, *, stream: bool = False, **told: Any) -> Any:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(Sent(**told)))
    client = AsyncOpenAI(base_url="http://model/v1", api_key="k", http_client=http)
    if is_short:
        shorten(client)
    create: Any = client.chat.completions.create
    return await create(model="m", messages=[], stream=stream)


async def test_a_request_without_retries_copies_no_client() -> None:
    provider = OpenAIProvider(base_url="http://model/v1", api_key="k")
    shorten(provider.client)
    client = provider.client
    same: dict[str, Any] = {"http_client": client._client, "_extra_kwargs": {}}  # pyright: ignore[reportPrivateUsage]
    assert client.with_options(max_retries=0, **same) is client
    assert client.with_options(max_retries=3, **same).max_retries == 3
