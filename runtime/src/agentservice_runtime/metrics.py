"""Decides how `/metrics` counts runs, model requests and tools. The series stand in `agentservice_api.series`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from agentservice_api.series import OTHER, PodSeries, Series

BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
"""Seconds: agents think for minutes."""
_FIRST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60)
"""Seconds."""
_TOOL_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
"""Seconds."""
MAX_NAMES: Final = 50
"""Tools, and models, of one agent that get a series of their own."""

SUCCESS: Final = "success"
CANCELLED: Final = "cancelled"


class Bounded:
    """The names that get a series of their own: the first so many that come."""

    def __init__(self, *, at_most: int = MAX_NAMES) -> None:
        self._at_most = at_most
        self._known = set[str]()

    def label(self, name: str) -> str:
        """Return the name, or OTHER once there are too many."""
        if name not in self._known:
            if len(self._known) >= self._at_most:
                return OTHER
            self._known.add(name)
        return name


class Metrics:
    """The series of one agent, in a registry of their own."""

    def __init__(
        self,
        *,
        agent_name: str,
        revision: str = "",
        slots: int | None = None,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """``slots``: how many runs at once; None leaves it untold."""
        self.registry = CollectorRegistry()
        self._agent = agent_name
        self._models, self._tools = Bounded(), Bounded()
        ProcessCollector(registry=self.registry)
        self._requests = counter(self.registry, PodSeries.RUNS)
        self._duration = histogram(self.registry, PodSeries.RUN_SECONDS, BUCKETS)
        self._tokens = counter(self.registry, PodSeries.TOKENS)
        self._active = gauge(self.registry, PodSeries.ACTIVE)
        self._waiting = gauge(self.registry, PodSeries.WAITING)
        self._slow = counter(self.registry, PodSeries.SLOW_RUNS)
        self._cost = counter(self.registry, PodSeries.COST)
        self._model_requests = counter(self.registry, PodSeries.MODEL_REQUESTS)
        self._model_seconds = histogram(self.registry, PodSeries.MODEL_SECONDS, BUCKETS)
        self._first_seconds = histogram(self.registry, PodSeries.FIRST_TOKEN_SECONDS, _FIRST_BUCKETS)
        self._retries = counter(self.registry, PodSeries.RETRIES)
        self._fallbacks = counter(self.registry, PodSeries.FALLBACKS)
        self._spans = counter(self.registry, PodSeries.SPANS)
        self._tool_calls = counter(self.registry, PodSeries.TOOL_CALLS)
        self._tool_seconds = histogram(self.registry, PodSeries.TOOL_SECONDS, _TOOL_BUCKETS)
        gauge(self.registry, PodSeries.INFO).labels(agent_name, revision).set(1)
        # asked at a scrape: the signal's handler, which begins the drain, may take no lock
        gauge(self.registry, PodSeries.DRAINING).labels(agent_name).set_function(is_draining)
        if slots is not None:
            gauge(self.registry, PodSeries.SLOTS).labels(agent_name).set(slots)
        # series that exist from the start have a rate from the start
        self._requests.labels(agent_name, SUCCESS)
        for family in (self._active, self._waiting, self._slow, self._duration):
            family.labels(agent_name)
        for kind in ("input", "output"):
            self._tokens.labels(agent_name, kind)

    def started(self) -> None:
        """Count a run that begins."""
        self._active.labels(self._agent).inc()

    def finished(self, *, status: str, seconds: float, input_tokens: int, output_tokens: int) -> None:
        """Count a run that has ended, after `started`."""
        self._active.labels(self._agent).dec()
        self._requests.labels(self._agent, status).inc()
        self._duration.labels(self._agent).observe(seconds)
        self._tokens.labels(self._agent, "input").inc(input_tokens)
        self._tokens.labels(self._agent, "output").inc(output_tokens)

    def was_slow(self) -> None:
        """Count a run that took longer than it should."""
        self._slow.labels(self._agent).inc()

    def cost(self, usd: str, *, model: str) -> None:
        """Count US dollars, a decimal string, that a run has cost."""
        self._cost.labels(self._agent, self._models.label(model)).inc(float(usd))

    def refused(self, *, status: str) -> None:
        """Count a request that never became a run."""
        self._requests.labels(self._agent, status).inc()

    def waits(self, change: int) -> None:
        """Count a request that begins (1) or ends (-1) to wait for a slot."""
        self._waiting.labels(self._agent).inc(change)

    def asked(self, *, model: str, status: str, seconds: float, first: float | None) -> None:
        """Count an attempt at a model request; ``first`` are the seconds to the first piece of a stream."""
        model = self._models.label(model)
        self._model_requests.labels(self._agent, model, status).inc()
        self._model_seconds.labels(self._agent, model).observe(seconds)
        if first is not None:
            self._first_seconds.labels(self._agent, model).observe(first)

    def retried(self, *, model: str, category: str) -> None:
        """Count a model request that is sent to ``model`` again."""
        self._retries.labels(self._agent, self._models.label(model), category).inc()

    def fell_back(self, *, model: str, category: str) -> None:
        """Count a model request that ``model`` takes over."""
        self._fallbacks.labels(self._agent, self._models.label(model), category).inc()

    def called(self, *, tool: str, status: str, seconds: float) -> None:
        """Count a call of a tool."""
        tool = self._tools.label(tool)
        self._tool_calls.labels(self._agent, tool, status).inc()
        self._tool_seconds.labels(self._agent, tool).observe(seconds)

    def exported(self, outcome: str, spans: int) -> None:
        """Count spans that were ``sent`` or ``lost``."""
        self._spans.labels(self._agent, outcome).inc(spans)

    def exposition(self) -> tuple[bytes, str]:
        """Return the text and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def counter(registry: CollectorRegistry, series: Series) -> Counter:
    """Return the counter of ``series``, registered."""
    return Counter(series.value, series.doc, series.labels, registry=registry)


def gauge(registry: CollectorRegistry, series: Series) -> Gauge:
    """Return the gauge of ``series``, registered."""
    return Gauge(series.value, series.doc, series.labels, registry=registry)


def histogram(registry: CollectorRegistry, series: Series, buckets: Iterable[float]) -> Histogram:
    """Return the histogram of ``series``, registered."""
    return Histogram(series.value, series.doc, series.labels, buckets=tuple(buckets), registry=registry)
