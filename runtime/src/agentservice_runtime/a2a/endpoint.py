"""Decides what `POST /v1/a2a` does: one JSON-RPC request, by its method.

Every outcome is a JSON-RPC response with the status 200, as its clients expect, but for a missing token, which is 401 to every kind of client.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from agentservice_runtime.a2a import answer as wording
from agentservice_runtime.a2a.answer import A2aTelling, RpcId
from agentservice_runtime.a2a.request import A2aReader, Asked, Code, OfTask, Refusal, Send
from agentservice_runtime.errors import Problem, ServiceError
from agentservice_runtime.responses import EventStream, answer_headers, json_response, problem_headers
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.service import Failed, Service
from agentservice_runtime.tasks import problems

if TYPE_CHECKING:
    # only agents with a queue pay for it
    from agentservice_runtime.tasks.endpoint import TaskEndpoint

_VERSION_HEADER: Final = "a2a-version"


class A2aEndpoint:
    """Answers A2A's clients."""

    def __init__(self, service: Service, *, reader: A2aReader, tasks: TaskEndpoint | None) -> None:
        """``tasks`` is that of the queue, None where there is none."""
        self._tasks = tasks
        self._service = service
        self._reader = reader

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        rpc_id: RpcId = None

        def read(body: dict[str, Any]) -> Asked:
            nonlocal rpc_id
            rpc_id = _id_of(body)
            return self._reader.read(body, version=request.headers.get(_VERSION_HEADER, "").strip())

        try:
            record, asked = await self._service.accept(request, read)
            match asked:
                case Refusal():
                    return json_response(wording.error(rpc_id, asked.code, asked.message))
                case OfTask():
                    return json_response(await self._of_task(asked, record, rpc_id))
                case Send(is_stream=False, is_immediate=True) if self._tasks is not None:
                    return json_response(await self._submit(self._tasks, asked, record, rpc_id))
                case Send(is_stream=True):
                    return await self._stream(asked, record, request, rpc_id)
                case Send():
                    return await self._send(asked, record, request, rpc_id)
        except (Failed, ServiceError) as failed:
            return _failure(failed.problem, rpc_id)

    async def _submit(self, tasks: TaskEndpoint, asked: Send, record: RunRecord, rpc_id: RpcId) -> dict[str, Any]:
        """Take in a task. A message that is sent again is the same task."""
        body: dict[str, Any] = {"input": asked.given}
        if asked.question.conversation_id is not None:
            body["conversation_id"] = asked.question.conversation_id
        key = f"a2a {hashlib.sha256(asked.message_id.encode()).hexdigest()}" if asked.message_id else None
        task = await tasks.submit(record, body, key=key)
        return wording.result(rpc_id, {"task": wording.queued(task, context_id=asked.context_id)})

    async def _send(self, asked: Send, record: RunRecord, request: Request, rpc_id: RpcId) -> Response:
        answer = await self._service.run(asked.question, record, receive=request.receive)
        content = {"message": wording.message(answer, context_id=asked.context_id)}
        return json_response(wording.result(rpc_id, content), headers=answer_headers(answer))

    async def _stream(self, asked: Send, record: RunRecord, request: Request, rpc_id: RpcId) -> Response:
        telling = A2aTelling(
            rpc_id=rpc_id,
            task_id=record.run_id,
            context_id=asked.context_id,
            is_text=self._service.runner.is_text,
        )
        stream = await self._service.stream(asked.question, record, telling=telling)
        return EventStream(stream, refuse=lambda problem: _failure(problem, rpc_id))

    async def _of_task(self, asked: OfTask, record: RunRecord, rpc_id: RpcId) -> dict[str, Any]:
        """Return a task of the queue, or a streamed one that is under way in this pod, or cancel it."""
        if self._tasks is not None and (found := await self._of_queue(self._tasks, asked, record, rpc_id)) is not None:
            return found
        state = "WORKING"
        if asked.is_cancel:
            try:
                has_ended = await self._service.stop(asked.task_id, record)
            except Failed:
                return _unknown(rpc_id)
            state = "CANCELED" if has_ended else state
        elif not self._service.is_under_way(asked.task_id, record):
            return _unknown(rpc_id)
        return wording.result(rpc_id, {"id": asked.task_id, "status": wording.status(state)})

    async def _of_queue(
        self, tasks: TaskEndpoint, asked: OfTask, record: RunRecord, rpc_id: RpcId
    ) -> dict[str, Any] | None:
        """Return what is said of a task of the queue, None when it has none of this id."""
        try:
            if asked.is_cancel:
                found = await tasks.cancel(record, asked.task_id)
            else:
                found = await tasks.show(record, asked.task_id, QueryParams())
        except ServiceError as error:
            if error.problem is problems.ENDED:
                return wording.error(rpc_id, Code.TASK_NOT_CANCELABLE, error.problem.detail)
            if error.problem is problems.UNKNOWN:
                return None
            raise
        return wording.result(rpc_id, wording.queued(found))


def _unknown(rpc_id: RpcId) -> dict[str, Any]:
    told = (
        "There is no task of yours with this id. One that was streamed is known while it is under way, in its own pod."
    )
    return wording.error(rpc_id, Code.TASK_NOT_FOUND, told)


def _failure(problem: Problem, rpc_id: RpcId) -> Response:
    status = 401 if problem.status == 401 else 200
    document = wording.problem_error(rpc_id, problem)
    return json_response(document, status=status, headers=problem_headers(problem))


def _id_of(body: dict[str, Any]) -> RpcId:
    given = body.get("id")
    return given if isinstance(given, str | int | float) and not isinstance(given, bool) else None
