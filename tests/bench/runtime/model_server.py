"""Answers chat completions at once, with as little work as possible: `python model_server.py PORT`.

A stream sends its tokens apart, TOKEN_SECONDS from each other, so that they arrive one by one as a model's do. What is
measured is the caller; this process has a processor of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

import uvloop

TOKENS: Final = 40
TOKEN_SECONDS: Final = 0.01
_HEAD: Final = {"id": "c1", "created": 1, "model": "bench"}
_USAGE: Final = {"prompt_tokens": 20, "completion_tokens": TOKENS, "total_tokens": 20 + TOKENS}


def _message() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello from the model"}, "finish_reason": "stop"}
    return json.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def _event(delta: dict[str, Any] | None, *, reason: str | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    usage = _USAGE if delta is None else None
    data = json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": choices, "usage": usage}).encode()
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n" % len(event) + event + b"\r\n"


_BODY: Final = _message()
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
_STREAM: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FIRST: Final = _event({"role": "assistant", "content": ""})
_TOKENS: Final = [_event({"content": f"w{number:02} "}) for number in range(TOKENS)]
_LAST: Final = _event({}, reason="stop") + _event(None) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(length)
            if b'"stream":true' not in body:
                writer.write(_ANSWER)
                continue
            writer.write(_STREAM + _FIRST)
            for token in _TOKENS:
                writer.write(token)
                await asyncio.sleep(TOKEN_SECONDS)
            writer.write(_LAST)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
