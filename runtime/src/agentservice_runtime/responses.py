"""Decides how answers, problems and streams become responses of HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from agentservice_runtime.cache.outcome import HEADER as CACHE_HEADER
from agentservice_runtime.chat.answer import CHAT_PATH, MODELS_PATH, chat_error, chat_status
from agentservice_runtime.client import while_connected
from agentservice_runtime.errors import PROBLEM_MEDIA_TYPE, STOPPING, ClientGone, Problem
from agentservice_runtime.runlog import RUN_ID_HEADER
from agentservice_runtime.runner import Answer
from agentservice_runtime.service import Stream


class EventStream(StreamingResponse):
    """Server-sent events; a client that hangs up stops the run, a run that is cut off ends with an event that says so."""

    def __init__(self, stream: Stream) -> None:
        # nginx buffers unless told not to
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", RUN_ID_HEADER: stream.run_id}
        super().__init__(stream.chunks(), media_type="text/event-stream", headers=headers)
        self._stream = stream
        self._has_head = False

    async def stream_response(self, send: Any) -> None:
        cache = await self._stream.cache()
        if cache is not None:
            self.headers[CACHE_HEADER] = cache.upper()
        self._has_head = True
        await super().stream_response(send)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await while_connected(self.stream_response(send), receive=receive)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            # the server does so once, when the time to stop is up; it waits a moment for what is said here
            problem = STOPPING.with_run(self._stream.run_id)
            if not self._has_head:
                await problem_response(problem, path=scope["path"])(scope, receive, send)
                return
            last = self._stream.error(problem)
            await send({"type": "http.response.body", "body": last, "more_body": False})
        finally:
            await self._stream.events.aclose()


def answer_headers(answer: Answer) -> dict[str, str]:
    """Return the headers that go with an answer."""
    cache = {} if answer.cache is None else {CACHE_HEADER: answer.cache.upper()}
    return {RUN_ID_HEADER: answer.run_id, **cache}


def json_response(content: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return ``content`` as JSON."""
    return Response(orjson.dumps(content), status_code=status, headers=headers, media_type="application/json")


def problem_response(problem: Problem, *, path: str) -> Response:
    """Return the problem in the shape that clients of ``path`` read."""
    headers = problem_headers(problem)
    if path.startswith((CHAT_PATH, MODELS_PATH)):
        return json_response(chat_error(problem), status=chat_status(problem), headers=headers)
    return Response(problem.body(), status_code=problem.status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def problem_headers(problem: Problem) -> dict[str, str]:
    """Return the headers that go with a problem, whichever shape its body has."""
    headers = problem.response_headers()
    return {**headers, RUN_ID_HEADER: problem.run_id} if problem.run_id else headers
