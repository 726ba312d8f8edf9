"""Decides what of a request is kept with its task, so that its run is that request's wherever it takes place."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from opentelemetry.trace import set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentservice_runtime.runlog import RunRecord


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who asks, and how."""

    caller: str | None
    end_user: str | None
    trace_id: str
    wants_fresh: bool
    traceparent: str = ""
    """The span of the request, as W3C writes it; empty where nothing is traced."""

    @classmethod
    def of(cls, record: RunRecord) -> Asker:
        """Return the asker of a request's record."""
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, context=set_span_in_context(record.span))
        return cls(
            caller=record.caller,
            end_user=record.end_user,
            trace_id=record.trace_id,
            wants_fresh=record.wants_fresh,
            traceparent=carrier.get("traceparent", ""),
        )

    @classmethod
    def decode(cls, content: bytes) -> Asker:
        """Return what `encode` has made bytes of, by this version or another. Raises ValueError."""
        known = orjson.loads(content)
        return cls(
            caller=known.get("caller"),
            end_user=known.get("end_user"),
            trace_id=known.get("trace_id") or "",
            wants_fresh=bool(known.get("wants_fresh")),
            traceparent=known.get("traceparent") or "",
        )

    def encode(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(self)

    @property
    def owner(self) -> str | None:
        """Whose the task is."""
        return owner_of(self)


def owner_of(who: Asker | RunRecord) -> str | None:
    """Return whose a task of theirs is: who else could not be told from them."""
    return who.end_user or who.caller
