"""A model provider that misbehaves on command and quotes the key it was given; the model's name is the command.

Run it with `python provider.py PORT`. What it is: OpenAI's chat completions, streamed and not, and an MCP server at /mcp.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
STATE: dict[str, Any] = {
    "requests": 0,
    "open": 0,
    "keys": [],
    "bodies": [],
    "headers": [],
    "traceparents": [],
    "cancelled": 0,
    "billed": {"requests": 0, "tokens": 0},
    "flaky": {},
}

ERRORS: dict[str, tuple[int, str | None, dict[str, str]]] = {
    "429": (429, "rate_limit_exceeded", {"retry-after": "7"}),
    "429-soon": (429, "rate_limit_exceeded", {"retry-after": "1"}),
    "429-bare": (429, "rate_limit_exceeded", {}),
    "quota": (429, "insufficient_quota", {}),
    "500": (500, None, {}),
    "503": (503, None, {}),
    "401": (401, "invalid_api_key", {}),
    "404": (404, "model_not_found", {}),
    "400": (400, None, {}),
    "context": (400, "context_length_exceeded", {}),
}


def bill(model: str, body: dict[str, Any]) -> dict[str, int]:
    """Charge a request that is answered, whether or not anybody reads the answer to its end, and return its usage."""
    prompt, completion = USAGE["prompt_tokens"], USAGE["completion_tokens"]
    if model.startswith("stream-"):
        completion = int(model.split("-")[1])
    if model.endswith("30x"):
        prompt, completion = 30 * len(json.dumps(body).encode()), 30 * completion
    completion *= body.get("n") or 1
    STATE["billed"]["requests"] += 1
    STATE["billed"]["tokens"] += prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def error(status: int, code: str | None, headers: dict[str, str], *, echo: str) -> Response:
    body = {"error": {"message": f"failed for {echo}", "type": "error", "code": code, "param": echo}}
    return JSONResponse(body, status, headers={**headers, "x-echo": echo.encode("ascii", "replace").decode()[:500]})


async def chat(request: Request) -> Response:
    body = await request.json()
    key = request.headers.get("authorization", "")
    model = body["model"]
    if model == "as-asked":
        model = next(m["content"] for m in body["messages"] if m["role"] == "user").split()[0]
    STATE["requests"] += 1
    STATE["keys"].append(key)
    STATE["traceparents"].append(request.headers.get("traceparent"))
    STATE["bodies"].append(body)
    model = overcome(model, body)
    if model in ERRORS:
        return error(*ERRORS[model], echo=f"{key} {json.dumps(body['messages'])}")
    if model == "malformed":
        return Response(f"not json {key}", media_type="application/json")
    if model == "drop" and not body.get("stream"):
        return StreamingResponse(dropped(), media_type="application/json")
    usage = bill(model, body)
    STATE["open"] += 1
    try:
        if model == "hang":
            await until_disconnected(request)
        if model.startswith("slow-"):
            await asyncio.sleep(int(model.split("-")[1]) / 1000)
    finally:
        STATE["open"] -= 1
    message = reply(model, body)
    base = {"id": f"c-{STATE['requests']}", "created": 1, "model": model}
    if not body.get("stream"):
        reason = "tool_calls" if message.get("tool_calls") else ended(model)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        told = {} if model.startswith("silent") else {"usage": usage}
        return JSONResponse({**base, "object": "chat.completion", "choices": [choice], **told})
    return StreamingResponse(chunks(model, base, message, body, key, usage), media_type="text/event-stream")


def overcome(model: str, body: dict[str, Any]) -> str:
    """`flaky-2-503`: fail so for the first two requests that say the same, then answer."""
    if not model.startswith("flaky-"):
        return model
    _, times, command = model.split("-", 2)
    said = json.dumps([m["content"] for m in body["messages"]])
    STATE["flaky"][said] = STATE["flaky"].get(said, 0) + 1
    return command if STATE["flaky"][said] <= int(times) else "recovered"


async def dropped() -> Any:
    yield b'{"id": "c'
    raise ConnectionResetError("the provider hangs up in its answer")


def ended(model: str) -> str:
    """`cut`: at the cap of output tokens."""
    return "length" if model == "cut" else "stop"


async def until_disconnected(request: Request) -> None:
    while not await request.is_disconnected():  # noqa: ASYNC110  there is no event to wait for
        await asyncio.sleep(0.02)
    STATE["cancelled"] += 1


def reply(model: str, body: dict[str, Any]) -> dict[str, Any]:
    tools = {t["function"]["name"]: t["function"] for t in body.get("tools", [])}
    answered = [m for m in body["messages"] if m["role"] == "tool"]
    if model.startswith("turns-") and len(answered) < int(model.split("-")[1]):
        return called(next(n for n in tools if n != "final_result"), {"x": len(answered)})
    if model.startswith("tool") and not (model == "tool" and answered):
        name = next((n for n in tools if n != "final_result"), None)
        if name is not None:
            return called(name, {"x": 1})
    if "final_result" in tools:
        good = {"response": "done", "suggested_actions": ["a", "b"], "escalated": True}
        refused = sum("JSON Schema" in json.dumps(m) for m in body["messages"])
        bad = model == "invalid" or (model == "invalid-once" and not refused)
        return called("final_result", {"response": 1} if bad else good)
    return {"role": "assistant", "content": f"You said: {body['messages'][-1]['content']}"}


def called(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


async def chunks(
    model: str, base: dict[str, Any], message: dict[str, Any], body: dict[str, Any], key: str, usage: dict[str, int]
) -> Any:
    def line(delta: dict[str, Any], reason: str | None = None, usage: Any = None, choices: bool = True) -> str:
        choice = [{"index": 0, "delta": delta, "finish_reason": reason}] if choices else []
        return (
            "data: "
            + json.dumps({**base, "object": "chat.completion.chunk", "choices": choice, "usage": usage})
            + "\n\n"
        )

    STATE["open"] += 1
    try:
        if message.get("tool_calls"):
            call = message["tool_calls"][0]
            arguments = call["function"]["arguments"]
            first = {**call, "index": 0, "function": {"name": call["function"]["name"], "arguments": ""}}
            yield line({"role": "assistant", "tool_calls": [first]})
            for i in range(0, len(arguments), 8):
                yield line({"tool_calls": [{"index": 0, "function": {"arguments": arguments[i : i + 8]}}]})
            yield line({}, "tool_calls")
        else:
            pause, count = 0.0, 4
            if model.startswith("stream-"):
                count, pause = int(model.split("-")[1]), int(model.split("-")[2]) / 1000
            for i in range(count):
                yield line({"role": "assistant", "content": f"word{i} "})
                if model == "break" and i == 1:
                    yield (
                        "data: "
                        + json.dumps({"error": {"message": f"broken {key}", "code": "rate_limit_exceeded"}})
                        + "\n\n"
                    )
                    return
                if model == "drop" and i == 1:
                    raise ConnectionResetError("the provider hangs up in its stream")
                await asyncio.sleep(pause)
            yield line({}, ended(model))
        if (body.get("stream_options") or {}).get("include_usage") and not model.startswith("silent"):
            yield line({}, usage=usage, choices=False)
        yield "data: [DONE]\n\n"
    except asyncio.CancelledError:
        STATE["cancelled"] += 1
        raise
    finally:
        STATE["open"] -= 1


async def messages(request: Request) -> Response:
    """Anthropic's messages: the client library streams them whether asked or not."""
    STATE["keys"].append(request.headers.get("x-api-key", "") + request.headers.get("authorization", ""))
    usage = {"input_tokens": 3, "output_tokens": 2}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": usage}
    parts = (
        {"type": "message_start", "message": {**message, "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "from messages"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    )
    text = "".join(f"event: {part['type']}\ndata: {json.dumps(part)}\n\n" for part in parts)
    return Response(text, media_type="text/event-stream")


async def mcp(request: Request) -> Response:
    """A streamable-HTTP MCP server with two tools, answering in JSON; it refuses when its header is not "Bearer good"."""
    STATE["headers"].append(request.headers.get("x-tickets-key"))
    if request.method != "POST":
        return Response(status_code=405)
    call = await request.json()
    if request.headers.get("x-tickets-key", "").startswith("bad"):
        return JSONResponse({"error": f"refused {request.headers['x-tickets-key']}"}, 401)
    method = call.get("method")
    if "id" not in call:
        return Response(status_code=202)
    result: dict[str, Any]
    if method == "initialize":
        result = {
            "protocolVersion": call["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tickets", "version": "1"},
        }
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
        names = ("search", "delete")
        result = {"tools": [{"name": n, "description": n, "inputSchema": schema} for n in names]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": f"ticket {call['params']['name']}"}], "isError": False}
    else:
        return JSONResponse({"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "unknown"}})
    return JSONResponse({"jsonrpc": "2.0", "id": call["id"], "result": result})


async def state(request: Request) -> Response:
    content = json.dumps(STATE)
    if request.method == "DELETE":
        STATE.update(
            requests=0,
            keys=[],
            bodies=[],
            headers=[],
            traceparents=[],
            cancelled=0,
            flaky={},
            billed={"requests": 0, "tokens": 0},
        )
    return Response(content, media_type="application/json")


app = Starlette(
    routes=[
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/mcp", mcp, methods=["GET", "POST", "DELETE"]),
        Route("/state", state, methods=["GET", "DELETE"]),
    ]
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", access_log=False)
