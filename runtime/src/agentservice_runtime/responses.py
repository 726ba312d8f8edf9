"""Decides how answers, problems and streams become responses of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from starlette.responses import Response

from agentservice_runtime.cache.outcome import HEADER as CACHE_HEADER
from agentservice_runtime.chat.answer import CHAT_PATH, MODELS_PATH, chat_error, chat_status
from agentservice_runtime.client import while_connected
from agentservice_runtime.errors import PROBLEM_MEDIA_TYPE, STOPPING, ClientGone, Problem
from agentservice_runtime.outlet import Outlet
from agentservice_runtime.runlog import RUN_ID_HEADER
from agentservice_runtime.runner import Answer
from agentservice_runtime.service import Failed, Stream


class EventStream(Response):
    """Server-sent events; a client that hangs up stops the run, a run that is cut off ends with an event that says so."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream, *, refuse: Callable[[Problem], Response] | None = None) -> None:
        """``refuse`` makes the answer of a run that failed before it said anything, where that has a status of its own."""
        self.status_code = 200
        self.background = None
        # nginx buffers unless told not to
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no", RUN_ID_HEADER: stream.run_id})
        self._stream = stream
        self._refuse = refuse

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        outlet = Outlet(send, head=self._head)
        refusal: Problem | None = None
        try:
            async with self._stream.place:
                await while_connected(self._stream.tell(outlet), receive=receive)
        except ClientGone:
            return
        except Failed as failed:
            refusal = failed.problem
        except asyncio.CancelledError:
            # the server does so once, when the time to stop is up; it waits a moment for what is said here
            problem = STOPPING.with_run(self._stream.run_id)
            if outlet.has_begun:
                await outlet.end(self._stream.error(problem))
            else:
                refusal = problem
        finally:
            await outlet.close()
        if refusal is not None:
            answer = problem_response(refusal, path=scope["path"]) if self._refuse is None else self._refuse(refusal)
            await answer(scope, receive, send)

    def _head(self) -> dict[str, Any]:
        cache = self._stream.cache()
        if cache is not None:
            self.headers[CACHE_HEADER] = cache.upper()
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}


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
