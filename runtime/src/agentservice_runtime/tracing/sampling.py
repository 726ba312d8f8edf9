"""Decides which traces are kept: the caller's own decision, else a share of the runs; never what runs beside them."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


def sampler(percent: int) -> Sampler:
    """Return the sampler that keeps ``percent`` of the traces that begin here."""
    return ParentBased(root=_Roots(percent))


class _Roots(Sampler):
    """A client's call that belongs to nothing - a lease that is renewed, a poll - would be a trace of its own."""

    def __init__(self, percent: int) -> None:
        self._share = TraceIdRatioBased(percent / 100)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on a trace that begins."""
        chosen = ALWAYS_OFF if kind is SpanKind.CLIENT else self._share
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return its name."""
        return f"Roots({self._share.get_description()})"
