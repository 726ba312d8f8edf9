"""Decides how a task becomes a run: that of the request it was, by the service that runs those, and in that request's trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry.trace import Span, SpanKind, format_trace_id, get_tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentservice_runtime.errors import Category, Problem, ServiceError
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.runner import Question
from agentservice_runtime.service import Failed, Service
from agentservice_runtime.tasks.asking import Asker
from agentservice_runtime.tasks.progress import Progress
from agentservice_runtime.tasks.store import Lease, TaskStore
from agentservice_runtime.tasks.task import Status
from agentservice_runtime.tasks.worker import End

if TYPE_CHECKING:  # only tasks with steps pay for it
    from agentservice_runtime.steps.journal import Journals


class Execution:
    """Runs the tasks of a queue."""

    def __init__(
        self,
        service: Service,
        *,
        read: Callable[[dict[str, Any]], Question],
        store: TaskStore,
        journals: Journals | None = None,
    ) -> None:
        """``journals`` keep the steps of each task; None: a task that was cut off begins from its input."""
        self._service = service
        self._journals = journals
        self._read = read
        self._store = store

    def record(self, lease: Lease) -> RunRecord:
        """Return the record of a task's run."""
        asker = Asker.decode(lease.asker)
        record = self._service.begin(traceparent=None, wants_fresh=asker.wants_fresh)
        record.caller, record.end_user = asker.caller, asker.end_user
        record.span = _span(asker, lease)
        context = record.span.get_span_context()
        record.trace_id = format_trace_id(context.trace_id) if context.is_valid else asker.trace_id or record.trace_id
        return record

    async def run(self, lease: Lease, record: RunRecord) -> End:
        """Run to the end. Never raises but when it is cancelled."""
        with use_span(record.span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            return await self._run(lease, record)

    async def _run(self, lease: Lease, record: RunRecord) -> End:
        try:
            # it was taken in by a process of perhaps another revision
            question = self._read(orjson.loads(lease.input))
        except ServiceError as error:
            return End(problem=error.problem)
        if self._journals is not None:
            from agentservice_runtime.steps.capability import RunSteps

            try:
                journal = await self._journals.open(lease.id, created=lease.created, fence=lease.started)
            except ServiceError as error:
                return End(problem=error.problem, was_attempt=False)
            record.steps = RunSteps(journal=journal, record=record)
        progress = Progress(self._store, lease=lease, is_text=self._service.runner.is_text)
        try:
            answer = await self._service.work(question, record, hear=progress.hear)
        except Failed as failed:
            return End(problem=failed.problem)
        finally:
            await progress.end()
        return End(answer=orjson.dumps(answer.document()))

    async def ended(self, lease: Lease, status: Status, problem: Problem | None) -> None:
        """Forget the task's steps, unless it may be queued again and go on after them. Never raises."""
        # of a failed task what the model has answered is the failure: read again, it would end in the same way
        has_answers_to_blame = problem is not None and problem.category is Category.VALIDATION
        if self._journals is not None and (status is not Status.FAILED or has_answers_to_blame):
            await self._journals.forget(lease.id, created=lease.created)


def _span(asker: Asker, lease: Lease) -> Span:
    """Begin the span of one attempt, below the request's: one that records nothing where nothing is traced."""
    context = TraceContextTextMapPropagator().extract({"traceparent": asker.traceparent})
    return get_tracer("agentservice_runtime").start_span(
        "process task",
        context=context,
        kind=SpanKind.CONSUMER,
        attributes={"agentservice.task_id": lease.id, "agentservice.attempt": lease.attempts},
    )
