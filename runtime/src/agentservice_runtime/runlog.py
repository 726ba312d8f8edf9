"""Decides what is told about a run once it is over: one log line and the metrics, never any content."""

from __future__ import annotations

import logging
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span, format_trace_id, get_current_span
from pydantic_ai import CancellationToken, RunUsage

from agentservice_runtime.cache.outcome import Note
from agentservice_runtime.errors import Category, ClientGone, Problem
from agentservice_runtime.logs import FIELDS, LOGGER, error_types, frames
from agentservice_runtime.meter.account import Account
from agentservice_runtime.metrics import CANCELLED, SUCCESS, Metrics

if TYPE_CHECKING:
    from agentservice_runtime.memory.memory import OpenTurn
    from agentservice_runtime.steps.capability import RunSteps

RUN_ID_HEADER: Final = "X-Run-Id"
_TRACEPARENT: Final = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$")
_NO_TRACE: Final = "0" * 32
_LOGFIRE_WARNING: Final = 13
"""OpenTelemetry's severity WARN, by which Logfire colours a span."""


def new_run_id() -> str:
    """Return a run id that no other run has."""
    return uuid.uuid4().hex


def trace_id(traceparent: str | None) -> str:
    """Return the id of the trace that this code is part of, that of a W3C ``traceparent`` header, or a new one."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        return format_trace_id(context.trace_id)
    match = _TRACEPARENT.match((traceparent or "").strip())
    if match is None or match.group(1) == _NO_TRACE:
        return secrets.token_hex(16)
    return match.group(1)


@dataclass(kw_only=True)
class RunRecord:
    """A run under way: what its line will say."""

    run_id: str
    trace_id: str
    began: float
    span: Span = field(default_factory=get_current_span, repr=False)
    """The request's, which records nothing where nothing is traced."""
    caller: str | None = None
    end_user: str | None = None
    """Tells who asks from everybody else; None when that is not known."""
    wants_fresh: bool = False
    """Whether who asks wants no cached answer."""
    usage: RunUsage = field(default_factory=RunUsage)
    replayed: RunUsage = field(default_factory=RunUsage)
    """What of it was used by an attempt before this one, whose steps were kept."""
    replayed_usd: Decimal = Decimal(0)
    """What a budget was charged for that."""
    account: Account = field(default_factory=Account)
    """What a budget's meter has charged it."""
    cancellation: CancellationToken = field(default_factory=CancellationToken)
    """Cancels it from outside."""
    has_answered: bool = False
    cache: Note | None = None
    """What the cache did for it; None where there is no cache."""
    steps: RunSteps | None = None
    """Keeps its steps, where it is a task that wants that."""
    turn: OpenTurn | None = None
    """The turn of a conversation that it is; None for a run that stands alone."""
    is_run: bool = False
    """False until a slot is held: a request that is refused before is no run."""


class RunLog:
    """Writes the line and the metrics of each run. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        agent_name: str,
        revision: str,
        metrics: Metrics,
        slow_seconds: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._agent = agent_name
        self._revision = revision
        self._metrics = metrics
        self._slow_seconds = slow_seconds
        self._clock = clock
        self._logger = logging.getLogger(f"{LOGGER}.run")

    def begin(self, *, run_id: str, trace_id: str) -> RunRecord:
        """Begin the record of a request."""
        return RunRecord(run_id=run_id, trace_id=trace_id, began=self._clock())

    def started(self, record: RunRecord) -> None:
        """The request has become a run."""
        record.is_run = True
        self._metrics.started()

    def succeeded(self, record: RunRecord, *, model: str, cost_usd: str | None) -> None:
        """Write the line of a run that has answered."""
        record.has_answered = True
        self._finish(record, status=SUCCESS, model=model, cost_usd=cost_usd, level=logging.INFO, extra={})

    def failed(
        self, record: RunRecord, error: BaseException, problem: Problem, *, model: str, cost_usd: str | None
    ) -> None:
        """Write the line of a request that was refused or has failed."""
        if isinstance(error, ClientGone) or problem.category is Category.CANCELLED:
            self._finish(record, status=CANCELLED, model=model, cost_usd=cost_usd, level=logging.INFO, extra={})
            return
        extra: dict[str, Any] = {"status": problem.status}
        level = logging.INFO if problem.status < 500 else logging.WARNING
        if record.is_run:
            level = logging.WARNING
            extra["error"] = error_types(error)
        if problem.category is Category.INTERNAL:
            level = logging.ERROR
            extra["at"] = frames(error)
        self._finish(record, status=problem.category, model=model, cost_usd=cost_usd, level=level, extra=extra)

    def _finish(
        self, record: RunRecord, *, status: str, model: str, cost_usd: str | None, level: int, extra: dict[str, Any]
    ) -> None:
        seconds = self._clock() - record.began
        usage = record.usage
        if record.is_run:
            self._metrics.finished(
                status=status,
                seconds=seconds,
                input_tokens=usage.input_tokens - record.replayed.input_tokens,
                output_tokens=usage.output_tokens - record.replayed.output_tokens,
            )
            if cost_usd is not None:
                self._metrics.cost(_paid(cost_usd, record), model=model)
        else:
            self._metrics.refused(status=status)
        slow = record.is_run and self._slow_seconds is not None and seconds > self._slow_seconds
        if slow:
            self._metrics.was_slow()
        self._trace(record, status=status, model=model, cost_usd=cost_usd, slow=slow)
        message = "slow run" if slow else "run" if record.is_run else "refused"
        self._logger.log(
            max(level, logging.WARNING) if slow else level,
            message,
            extra={
                FIELDS: {
                    "run_id": record.run_id,
                    "trace_id": record.trace_id,
                    "caller": record.caller,
                    "agent": self._agent,
                    "revision": self._revision,
                    "model": model,
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "requests": usage.requests,
                    "cost_usd": cost_usd if record.is_run else None,
                    "category": status,
                    "duration_seconds": round(seconds, 3),
                    **({"cache": record.cache.outcome} if record.cache is not None and record.cache.outcome else {}),
                    **extra,
                }
            },
        )

    def _trace(self, record: RunRecord, *, status: str, model: str, cost_usd: str | None, slow: bool) -> None:
        span = record.span
        if not span.is_recording():
            return
        span.set_attributes(
            {
                "gen_ai.agent.name": self._agent,
                "agentservice.run_id": record.run_id,
                "agentservice.revision": self._revision,
                "agentservice.model": model,
                "agentservice.status": status,
            }
        )
        if cost_usd is not None and record.is_run:
            span.set_attribute("agentservice.cost_usd", float(cost_usd))
        if record.cache is not None and record.cache.outcome:
            span.set_attribute("agentservice.cache", record.cache.outcome)
        if slow:
            span.set_attributes({"agentservice.slow": True, "logfire.level_num": _LOGFIRE_WARNING})


def _paid(cost_usd: str, record: RunRecord) -> str:
    """Return what of a run's cost this process has paid."""
    replayed = record.replayed_usd or record.replayed.cost or Decimal(0)
    return str(max(Decimal(0), Decimal(cost_usd) - replayed)) if replayed else cost_usd
