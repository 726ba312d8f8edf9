"""Decides the paths of tasks, and the statuses and headers of their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from agentservice_runtime.client import while_connected
from agentservice_runtime.errors import ClientGone
from agentservice_runtime.responses import json_response
from agentservice_runtime.runner import Question
from agentservice_runtime.service import Service
from agentservice_runtime.tasks.endpoint import TaskEndpoint
from agentservice_runtime.tasks.task import PATH, Task

_COME_AGAIN: Final = "1"
"""Seconds until who polls should look again."""


def add_tasks(
    app: FastAPI, *, service: Service, read: Callable[[dict[str, Any]], Question], endpoint: TaskEndpoint
) -> None:
    """Serve `/v1/tasks`."""

    def checked(body: dict[str, Any]) -> dict[str, Any]:
        read(body)  # who asks for what does not fit is told so at once
        return body

    @app.post(PATH)
    async def submit(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        record, body = await service.accept(request, checked)
        task = await endpoint.submit(record, body, key=request.headers.get("idempotency-key"))
        return _told(task, status=202, headers={"Location": task.check_url})

    @app.get(PATH)
    async def listed(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(await endpoint.listed(service.authorize(request), request.query_params))

    @app.get(f"{PATH}/{{task_id}}")
    async def show(request: Request, task_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        shown = endpoint.show(service.authorize(request), task_id, request.query_params)
        try:
            return _told(await while_connected(shown, receive=request.receive))
        except ClientGone:
            return Response(status_code=204)  # that nobody reads

    @app.delete(f"{PATH}/{{task_id}}")
    async def cancel(request: Request, task_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        task = await endpoint.cancel(service.authorize(request), task_id)
        return _told(task, status=200 if task.status.is_end else 202)

    @app.post(f"{PATH}/{{task_id}}/requeue")
    async def requeue(request: Request, task_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return _told(await endpoint.requeue(service.authorize(request), task_id), status=202)

    @app.get(f"{PATH}/{{task_id}}/events")
    async def events(request: Request, task_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        after = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        told = await endpoint.events(service.authorize(request), task_id, after=after)
        if told is None:
            return Response(status_code=204)  # a browser's EventSource asks no more
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)


def _told(task: Task, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    found = dict(headers or {})
    if not task.status.is_end:
        found["Retry-After"] = _COME_AGAIN
    return json_response(task.document(), status=status, headers=found)
