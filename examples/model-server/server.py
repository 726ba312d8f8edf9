"""An OpenAI-compatible server without a model: it answers plausibly, at once, the same every time, and misbehaves when told to.

Which behaviour is asked for stands in the model's name; README.md beside this file lists them. Needs starlette and uvicorn.
Run it with `python server.py [PORT]`; the environment variable API_KEYS (comma separated) makes it refuse other keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from reply import Reply, decide, dictation, output_cap, prompt_tokens, tokens_in
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODELS = ("stand-in", "gpt-4o-mini", "gpt-4o")
"""What /v1/models lists. Every other name is answered too."""


class RefusalError(Exception):
    """An answer that is an error, in the shape of the provider's."""

    def __init__(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after

    def response(self) -> Response:
        error = {"message": str(self), "type": "error", "code": self.code, "param": None}
        headers = {"retry-after": self.retry_after} if self.retry_after else None
        return JSONResponse({"error": error}, self.status, headers=headers)


class BrokenError(Exception):
    """The connection is to end in the middle of an answer."""


@dataclass
class State:
    """What the server has seen since it started; /state shows it."""

    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    models: Counter[str] = field(default_factory=Counter[str])
    billed: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    """By model: requests that were answered and their tokens. What is answered is billed, read to its end or not."""
    keys: Counter[str] = field(default_factory=Counter[str])
    """By the first digits of the key's SHA-256: enough to see a rotation, too little to call anyone with."""

    def bill(self, model: str, usage: dict[str, int]) -> None:
        """Charge one answer."""
        self.prompt_tokens += usage["prompt_tokens"]
        self.completion_tokens += usage["completion_tokens"]
        self.billed.setdefault(model, Counter()).update({"requests": 1, **usage})


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a model's name asks for."""

    wait_seconds: float = 0
    chunk_seconds: float = 0
    chunks: int | None = None
    valid: bool = True
    malformed: bool = False
    breaks: str | None = None
    """What happens after the second chunk of a stream: `drop`, `error` or `stall`."""
    overbilled: int = 0
    """Tokens of output that are billed and were never answered."""


REFUSALS = {
    "400": RefusalError(400, "bad request"),
    "400-context": RefusalError(
        400, "This model's maximum context length is 10 tokens", code="context_length_exceeded"
    ),
    "401": RefusalError(401, "Incorrect API key provided", code="invalid_api_key"),
    "402": RefusalError(402, "You exceeded your current quota", code="insufficient_quota"),
    "404": RefusalError(404, "The model does not exist", code="model_not_found"),
    "429": RefusalError(429, "Rate limit reached", code="rate_limit_exceeded", retry_after="2"),
    "500": RefusalError(500, "The server had an error"),
    "503": RefusalError(503, "The server is overloaded"),
}
HANG_SECONDS = 3600.0


def behaviour(model: str, *, nth: int) -> Behaviour:
    """Read the ``nth`` request (from 1) for ``model``. Raises RefusalError when the name asks for an error."""
    if model in REFUSALS:
        raise REFUSALS[model]
    if (first := re.fullmatch(r"(429|500|503)-first-(\d+)", model)) is not None:
        if nth <= int(first[2]):
            raise REFUSALS[first[1]]
        return Behaviour()
    if (slow := re.fullmatch(r"slow-(\d+)", model)) is not None:
        return Behaviour(wait_seconds=int(slow[1]) / 1000)
    if (stream := re.fullmatch(r"stream-(\d+)-(\d+)", model)) is not None:
        return Behaviour(chunks=int(stream[1]), chunk_seconds=int(stream[2]) / 1000)
    if (invalid := re.fullmatch(r"invalid(?:-first-(\d+))?", model)) is not None:
        return Behaviour(valid=invalid[1] is not None and nth > int(invalid[1]))
    if (overbills := re.fullmatch(r"overbills-(\d+)", model)) is not None:
        return Behaviour(overbilled=int(overbills[1]))
    match model:
        case "hang":
            return Behaviour(wait_seconds=HANG_SECONDS)
        case "malformed":
            return Behaviour(malformed=True)
        case "break-drop" | "break-error" | "break-stall":
            return Behaviour(breaks=model.removeprefix("break-"))
        case _:
            return Behaviour()


def create_app(*, keys: frozenset[str] = frozenset()) -> Starlette:
    """Build the server. ``keys``: those it accepts; empty means every one, and none."""
    state = State()

    @asynccontextmanager
    async def counted(*, model: str, key: str) -> AsyncIterator[int]:
        state.requests += 1
        state.models[model] += 1
        state.keys[hashlib.sha256(key.encode()).hexdigest()[:8] if key else "none"] += 1
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        try:
            yield state.models[model]
        finally:
            state.in_flight -= 1

    async def completions(request: Request) -> Response:
        try:
            body = await request.json()
            model = str(body["model"])
        except (ValueError, KeyError, TypeError):
            return RefusalError(400, "the body must be a JSON object with a model").response()
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if keys and key not in keys:
            return REFUSALS["401"].response()
        async with counted(model=model, key=key) as nth:
            try:
                how = behaviour(model, nth=nth)
            except RefusalError as refusal:
                return refusal.response()
            reply = decide(body, valid=how.valid)
            if how.chunks is not None:
                dictated = dictation(body.get("messages", []))
                reply = Reply(text="".join(f"{dictated or f'word{index}'} " for index in range(how.chunks)))
            reply, choices = reply.within(output_cap(body)), int(body.get("n") or 1)
            output = tokens_in(reply.output_text) * choices + how.overbilled
            usage = {"prompt_tokens": prompt_tokens(body), "completion_tokens": output}
            usage["total_tokens"] = sum(usage.values())
            state.bill(model, usage)
            await asyncio.sleep(how.wait_seconds)
            if how.malformed:
                return Response("not json", media_type="application/json")
            head = {"id": f"chatcmpl-{state.requests}", "created": int(time.time()), "model": model}
        if not body.get("stream"):
            answers = [_choice(reply, index=index) for index in range(choices)]
            return JSONResponse({**head, "object": "chat.completion", "choices": answers, "usage": usage})
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))

        async def events() -> AsyncIterator[str]:
            async with _streaming(state):
                async for event in _stream(reply, head=head, usage=usage if with_usage else None, how=how):
                    yield event

        return StreamingResponse(events(), media_type="text/event-stream")

    async def models(_: Request) -> Response:
        return JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "example"} for name in MODELS]}
        )

    async def seen(_: Request) -> Response:
        return JSONResponse({**vars(state), "models": dict(state.models), "keys": dict(state.keys)})

    async def health(_: Request) -> Response:
        return Response("ok")

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/state", seen),
            Route("/health", health),
        ]
    )


@asynccontextmanager
async def _streaming(state: State) -> AsyncIterator[None]:
    state.in_flight += 1
    try:
        yield
    finally:
        state.in_flight -= 1


def _choice(reply: Reply, *, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": f"call_{nth}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for nth, call in enumerate(reply.tool_calls)
        ]
    return {"index": index, "message": message, "finish_reason": _finish_reason(reply)}


def _finish_reason(reply: Reply) -> str:
    return "length" if reply.is_cut else "tool_calls" if reply.tool_calls else "stop"


def _deltas(reply: Reply) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in re.findall(r"\s*\S+\s*", reply.text)]
    for index, call in enumerate(reply.tool_calls):
        deltas.append(
            {
                "tool_calls": [
                    {
                        "index": index,
                        "id": f"call_{index}",
                        "type": "function",
                        "function": {"name": call.name, "arguments": ""},
                    }
                ]
            }
        )
        pieces = [call.arguments[start : start + 16] for start in range(0, len(call.arguments), 16)]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    return deltas


async def _stream(
    reply: Reply, *, head: dict[str, Any], usage: dict[str, int] | None, how: Behaviour
) -> AsyncIterator[str]:
    head = {**head, "object": "chat.completion.chunk"}

    def event(content: dict[str, Any]) -> str:
        return f"data: {json.dumps(content)}\n\n"

    for index, delta in enumerate(_deltas(reply)):
        yield event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None})
        await asyncio.sleep(how.chunk_seconds)
        if index == 2:
            match how.breaks:
                case "drop":
                    raise BrokenError("asked for by the model's name")
                case "error":
                    yield event(
                        {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded", "type": "requests"}}
                    )
                    return
                case "stall":
                    await asyncio.sleep(HANG_SECONDS)
                case _:
                    pass
    last = {"index": 0, "delta": {}, "finish_reason": _finish_reason(reply)}
    yield event({**head, "choices": [last], "usage": None})
    if usage is not None:
        yield event({**head, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def main() -> None:
    import uvicorn

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    accepted = frozenset(key for key in os.environ.get("API_KEYS", "").split(",") if key)
    uvicorn.run(create_app(keys=accepted), host="0.0.0.0", port=port, log_level="warning", timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
