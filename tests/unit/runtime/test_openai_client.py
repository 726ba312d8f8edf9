"""The short way through OpenAI's SDK sends what the long way sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, AsyncOpenAI
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
    long, short = [await completions(is_short, Sent(answer={**ANSWER, **told})) for is_short in (False, True)]
    assert type(short) is type(long)
    assert (repr(short), short.to_dict(warnings=False)) == (repr(long), long.to_dict(warnings=False))


@pytest.mark.parametrize("told", differing("delta", content="seven"))
async def test_a_piece_of_a_stream_is_what_the_sdk_makes_of_it(told: dict[str, Any]) -> None:
    ways: list[list[Any]] = []
    for is_short in (False, True):
        sent = Sent(chunk={**CHUNK, **told})
        ways.append([piece async for piece in await completions(is_short, sent, stream=True)])
    (long,), (short,) = ways
    assert type(short) is type(long)
    assert (repr(short), short.to_dict(warnings=False)) == (repr(long), long.to_dict(warnings=False))


WORDS = [f"data: {json.dumps(CHUNK).replace('seven', word)}" for word in ("six", "sieben ✓", "eight")]
LONG = json.dumps(CHUNK).replace("seven", "x" * 70_000)
STREAMS = {
    "plain": "\n\n".join([*WORDS, "data: [DONE]", ""]),
    "no space": "\n\n".join([*WORDS, "data:[DONE]", ""]).replace("data: ", "data:"),
    "comments": "\n\n".join([WORDS[0], ": PROCESSING", ": PROCESSING", *WORDS[1:], "data: [DONE]", ""]),
    "named": "\n\n".join([WORDS[0], f"event: message\nid: 7\n{WORDS[1]}", WORDS[2], "data: [DONE]", ""]),
    "data of two lines": "\n\n".join([WORDS[0].replace(", ", ",\ndata: ", 1), *WORDS[1:], "data: [DONE]", ""]),
    "carriage returns": "\r\n\r\n".join([*WORDS, "data: [DONE]", ""]),
    "bare carriage returns": "\r\r".join([*WORDS, "data: [DONE]", ""]),
    "more after the end": "\n\n".join([WORDS[0], "data: [DONE]", *WORDS[1:], ""]),
    "no end": "\n\n".join([*WORDS, ""]),
    "cut off": "\n\n".join(WORDS),
    "a long one": "\n\n".join([WORDS[0], f"data: {LONG}", WORDS[2], "data: [DONE]", ""]),
    "an error": "\n\n".join([WORDS[0], 'data: {"error": {"message": "no more"}}', WORDS[2], ""]),
    "an error in a chunk": "\n\n".join([WORDS[0], f"data: {json.dumps({**CHUNK, 'error': {'code': 502}})}", ""]),
    "no JSON": "\n\n".join([WORDS[0], "data: {", WORDS[2], ""]),
    "half a character": "\n\n".join([WORDS[0], r'data: "\ud83d"', WORDS[2], ""]),
    "nothing": "",
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_what_the_sdk_makes_of_it_in_whatever_pieces_it_comes(name: str, size: int) -> None:
    long, short = [await read(is_short, STREAMS[name].encode(), size=size) for is_short in (False, True)]
    assert short == long
    assert len(long) > 1 or name == "nothing"


async def read(is_short: bool, body: bytes, *, size: int) -> list[str]:
    """What comes of a stream, and how it ends."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=pieces(), headers={"content-type": "text/event-stream"})

    stream = await completions(is_short, answer, stream=True)
    found: list[str] = []
    try:
        async for piece in stream:
            found.append(repr(piece))
    except Exception as error:
        found.append(f"{type(error).__name__}: {error} {getattr(error, 'body', None)}")
    return [*found, f"closed: {stream.response.is_closed}"]


@pytest.mark.parametrize("error", [httpx2.ReadTimeout, httpx2.ReadError, httpx2.RemoteProtocolError])
async def test_a_stream_that_breaks_off_ends_as_the_sdk_ends_it(error: type[httpx2.TransportError]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield WORDS[0].encode() + b"\n\n"
        raise error("it broke")

    ways: list[type[Exception]] = []
    for is_short in (False, True):
        stream = await completions(is_short, lambda _: httpx2.Response(200, content=pieces()), stream=True)
        assert await anext(stream)
        with pytest.raises(APIConnectionError) as broken:
            await anext(stream)
        assert stream.response.is_closed
        ways.append(broken.type)
    assert ways[0] is ways[1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_a_stream_that_is_not_read_on_has_told_what_had_come_and_is_closed(line_end: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield (WORDS[0] + "\n\n").replace("\n", line_end).encode()
        raise AssertionError("it waits for more")

    stream = await completions(True, lambda _: httpx2.Response(200, content=pieces()), stream=True)
    assert (await anext(stream)).choices[0].delta.content == "six"
    await stream._iterator.aclose()
    assert stream.response.is_closed


async def completions(is_short: bool, answer: Any, *, stream: bool = False) -> Any:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
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
