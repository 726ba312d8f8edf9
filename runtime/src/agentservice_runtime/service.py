"""Decides the course of a request for a run: who asks, what, is there room, run, tell how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

from pydantic_ai import RunCancelled
from pydantic_ai.run import AgentRunResultEvent
from starlette.requests import Request

from agentservice_api import RuntimeConfig
from agentservice_runtime.active import ActiveRuns, chosen_id
from agentservice_runtime.admission import Admission
from agentservice_runtime.auth import Authenticator
from agentservice_runtime.body import read_body
from agentservice_runtime.cache.outcome import Note
from agentservice_runtime.client import Receive, while_connected
from agentservice_runtime.drain import Drain
from agentservice_runtime.errors import CANCELLED, Category, ClientGone, Problem, classify, is_cut_off
from agentservice_runtime.memory.memory import Memory
from agentservice_runtime.meter.refusals import SQUEEZED
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.model_failures import innermost
from agentservice_runtime.outlet import Outlet
from agentservice_runtime.runlog import RUN_ID_HEADER, RunLog, RunRecord, new_run_id, trace_id
from agentservice_runtime.runner import Answer, Hear, Question, Runner, told_of
from agentservice_runtime.secrets import SecretFiles
from agentservice_runtime.stream import Telling

T = TypeVar("T")

_HEAD_SECONDS: Final = 10.0
"""A run that waits for an equal one for longer begins its answer without a word about the cache."""
_SOON_SECONDS: Final = 0.2
"""The head of a streamed answer waits so long for the first word, once it is known what the head says."""
_WANTS_FRESH: Final = frozenset({"no-cache", "no-store"})


class Failed(Exception):  # noqa: N818
    """A request that is answered with ``problem``; its log line is written."""

    def __init__(self, *, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A run that may begin, and is told as it goes."""

    run_id: str
    place: AsyncExitStack = field(repr=False)
    """What the run holds: to be closed once it has ended, or is not begun."""
    tell: Callable[[Outlet], Coroutine[Any, Any, None]] = field(repr=False)
    """Run, and say all of it. Raises Failed when the run has failed before anything was said and has a status for that."""
    error: Callable[[Problem], bytes]
    """How the stream says that it is cut off."""
    cache: Callable[[], str | None]
    """What the answer's head says of the cache: hit, miss or bypass, or None for nothing."""


class Service:
    """One agent's service. `start` gives it the deps that its runs need."""

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        secrets: SecretFiles,
        revision: str,
        drain: Drain,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = Metrics(
            agent_name=config.name,
            revision=revision,
            slots=config.serving.concurrency_per_pod,
            is_draining=lambda: drain.is_draining,
        )
        self._drain = drain
        self._auth = Authenticator(config.auth, secrets=secrets)
        self._admission = Admission(limit=config.serving.concurrency_per_pod, waits=self.metrics.waits)
        self._max_body_bytes = config.agent.limits.max_body_bytes
        self._active = ActiveRuns()
        self._log = RunLog(
            agent_name=config.name,
            revision=revision,
            metrics=self.metrics,
            slow_seconds=config.observability.slow_run_seconds,
            clock=clock,
        )
        self._messages = config.errors.messages.model_dump(exclude_none=True)
        self._runner: Runner | None = None
        self._memory: Memory | None = None
        self._model_name = config.model.name
        self._has_cache = config.cache is not None

    def start(self, runner: Runner, *, memory: Memory | None = None) -> None:
        """Serve runs from now on. ``memory`` holds the conversations."""
        self._runner = runner
        self._memory = memory
        self._model_name = runner.model_name

    @property
    def runner(self) -> Runner:
        """The runner. Raises RuntimeError before `start`."""
        if self._runner is None:
            raise RuntimeError("the service is not started")
        return self._runner

    def authorize(self, request: Request) -> RunRecord:
        """Let a request pass that asks for no run, and return the record that says who asks. Raises Failed."""
        record = self._begin(request)
        try:
            record.caller = self._auth.caller(request.headers)
            record.end_user = self._auth.end_user(request.headers, caller=record.caller)
        except Exception as error:
            raise self._failed(record, error) from error
        return record

    async def cancel(self, request: Request, run_id: str) -> bool:
        """Cancel a run of the same caller and return whether it has ended. Raises Failed."""
        return await self.stop(run_id, self.authorize(request))

    async def stop(self, run_id: str, record: RunRecord) -> bool:
        """Cancel a run for whom ``record`` says. Raises Failed."""
        try:
            return await self._active.cancel(chosen_id(run_id), caller=record.caller)
        except Exception as error:
            raise self._failed(record, error) from error

    def is_under_way(self, run_id: str, record: RunRecord) -> bool:
        """Tell whether whom ``record`` says has a run with this id in this pod."""
        return self._active.is_under_way(run_id, caller=record.caller)

    async def accept(self, request: Request, read: Callable[[dict[str, Any]], T]) -> tuple[RunRecord, T]:
        """Return the record of a request for a run and what ``read`` makes of its body. Raises Failed."""
        record = self._begin(request)
        try:
            record.caller = self._auth.caller(request.headers)
            if chosen := request.headers.get(RUN_ID_HEADER):
                record.run_id = chosen_id(chosen)
            record.end_user = self._auth.end_user(request.headers, caller=record.caller)
            return record, read(await read_body(request, max_bytes=self._max_body_bytes))
        except BaseException as error:
            raise self._failed(record, error) from error

    async def run(self, question: Question, record: RunRecord, *, receive: Receive) -> Answer:
        """Run to the end. Raises Failed."""
        try:
            record.span.set_attributes(question.attributes)
            async with self._place(question, record):
                return await while_connected(self._run(question, record), receive=receive)
        except BaseException as error:
            raise self._failed(record, error) from error

    async def work(self, question: Question, record: RunRecord, *, hear: Hear) -> Answer:
        """Run to the end for nobody who is connected; ``hear`` is told of pydantic-ai's events. Raises Failed."""
        try:
            async with self._place(question, record):
                return await self._run(question, record, hear=hear)
        except BaseException as error:
            raise self._failed(record, error) from error

    async def stream(self, question: Question, record: RunRecord, *, telling: Telling) -> Stream:
        """Return a run in the words of ``telling``, once it may begin. Raises Failed."""
        place = AsyncExitStack()
        record.span.set_attributes(question.attributes)
        try:
            await place.enter_async_context(self._place(question, record))
        except BaseException as error:
            raise self._failed(record, error) from error
        return Stream(
            run_id=record.run_id,
            place=place,
            tell=partial(self._tell, question, record, telling),
            error=telling.error,
            cache=partial(told_of, record),
        )

    async def _tell(self, question: Question, record: RunRecord, telling: Telling, outlet: Outlet) -> None:
        """Run, and say it through ``outlet``. Raises Failed where nothing is said yet and ``telling`` leaves it at that."""
        if not telling.has_status:
            # with the first word where that comes soon: sent alone it would hold up the first words of all
            soon = partial(outlet.begin_within, _SOON_SECONDS)
            if record.cache is None:
                soon()
            else:
                record.cache.when_decided = soon
                outlet.begin_within(_HEAD_SECONDS)
        try:
            async with telling.hearing(outlet.say) as hear:
                answer = await self._run(question, record, hear=hear)
                await hear(answer)
        except BaseException as error:
            if _is_stopped(error):
                if not record.has_answered:
                    self._failed(record, error if self._drain.is_draining else ClientGone())
                raise
            failed = self._failed(record, error)
            if telling.has_status and not outlet.has_begun:
                raise failed from error
            await outlet.end(telling.error(failed.problem))
        else:
            await outlet.end()

    async def _run(self, question: Question, record: RunRecord, *, hear: Hear | None = None) -> Answer:
        """Run to the end, and write the line: who has the answer finds it."""
        result = await self.runner.run(question, record, hear=hear)
        answer = await self.runner.concluded(result, question, record)
        self._log.succeeded(record, model=answer.model, cost_usd=answer.cost_usd)
        if hear is not None:
            await hear(AgentRunResultEvent(result))
        return answer

    @asynccontextmanager
    async def _place(self, question: Question, record: RunRecord) -> AsyncGenerator[None]:
        """Hold what a run needs to be one: its id, by which it can be cancelled, a slot, and its conversation's turn."""
        async with AsyncExitStack() as held:
            held.enter_context(self._active.entered(record))
            await held.enter_async_context(self._admission.slot())
            if question.conversation_id is not None and self._memory is not None:
                turn = self._memory.turn(question.conversation_id, end_user=record.end_user, run_id=record.run_id)
                record.turn = await held.enter_async_context(turn)
            self._log.started(record)
            yield

    def begin(self, *, traceparent: str | None = None, wants_fresh: bool = False) -> RunRecord:
        """Begin the record of a run that no request waits for."""
        record = self._log.begin(run_id=new_run_id(), trace_id=trace_id(traceparent))
        if self._has_cache:
            record.cache = Note()
            record.wants_fresh = wants_fresh
        return record

    def _begin(self, request: Request) -> RunRecord:
        asked = {word.strip().lower() for word in request.headers.get("cache-control", "").split(",")}
        return self.begin(traceparent=request.headers.get("traceparent"), wants_fresh=bool(asked & _WANTS_FRESH))

    def _worded(self, problem: Problem, record: RunRecord) -> Problem:
        """Return the problem in the words of the specification, if it has any for it.

        A request that never became a run because of what is wrong with it is told in ours, which name the field.
        """
        words = self._messages.get(problem.category)
        if words is None or (problem.category is Category.VALIDATION and not record.is_run):
            return problem
        return replace(problem, detail=words)

    def _failed(self, record: RunRecord, error: BaseException) -> Failed:
        account = record.account
        if record.cancellation.cancelled and isinstance(innermost(error), RunCancelled):
            problem = CANCELLED
        else:
            problem = SQUEEZED if account.is_squeezed and is_cut_off(error) else classify(error)
        problem = self._worded(problem, record).with_run(record.run_id)
        cost = self._runner.cost(record) if self._runner else None
        model = account.served_by or self._model_name
        self._log.failed(record, error, problem, model=model, cost_usd=cost)
        return Failed(problem=problem)


def _is_stopped(error: BaseException) -> bool:
    """Tell whether it is this task that is cancelled, and not something within the run."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
