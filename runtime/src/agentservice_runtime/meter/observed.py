"""Decides which series `/metrics` shows of the budget in this pod. What the windows hold is told by the operator.

The numbers are kept here and turned into series when somebody asks: several counters for each model request would cost
more than the rest of its metering.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from agentservice_api.budget import Amount
from agentservice_api.budget.amount import NANO_PER_USD
from agentservice_api.series import PodSeries
from agentservice_runtime.ledger.interface import Spend
from agentservice_runtime.meter.refusals import Reason

_RATIO_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2, 5, 10, 30)
"""Billed tokens in relation to reserved ones; above 1 is overrun."""
_WAIT_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10)
"""Seconds."""
_COUNTED_AT_ONCE: Final = 256


class _Distribution:
    """Counts by bucket, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip((*map(_text, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            found.append((bound, seen))
        return found


class Observed(Collector):
    """The series, each with the label ``agent_name``. Every method may be called on any thread."""

    def __init__(self, registry: CollectorRegistry, *, agent_name: str) -> None:
        self._agent = agent_name
        self._lock = threading.Lock()
        self._refused = Counter({reason.value: 0 for reason in Reason})
        self._ratio = _Distribution(_RATIO_BUCKETS)
        self._wait = _Distribution(_WAIT_BUCKETS)
        self._overrun_tokens = 0
        self._overrun_nano = 0
        self._tokens = Counter[str]()
        self._nano = Counter[str]()
        self._unmeasured = Counter[str]()
        self._settled = deque[tuple[Spend, Amount, bool]]()
        self._waited = deque[float]()
        """Neither is counted yet."""
        registry.register(self)

    def waited(self, seconds: float) -> None:
        """Count how long a reservation took."""
        self._waited.append(seconds)
        self._count_some()

    def refused(self, reason: Reason) -> None:
        """Count a refusal."""
        with self._lock:
            self._refused[reason.value] += 1

    def unmeasured(self, model: str) -> None:
        """Count a request whose usage nobody told."""
        with self._lock:
            self._unmeasured[model] += 1

    def settled(self, spend: Spend, *, bound: Amount, is_measured: bool) -> None:
        """Count what a request was settled at."""
        self._settled.append((spend, bound, is_measured))
        self._count_some()

    def collect(self) -> Iterable[Metric]:
        """Return the series as they are now."""
        with self._lock:
            self._count()
            return list(self._families())

    def _count_some(self) -> None:
        if len(self._settled) + len(self._waited) >= _COUNTED_AT_ONCE:
            with self._lock:
                self._count()

    def _count(self) -> None:
        """Take in what has come: many at once cost a part of what each would cost by itself."""
        while self._waited:
            self._wait.observe(self._waited.popleft())
        while self._settled:
            spend, bound, is_measured = self._settled.popleft()
            tokens, nano = spend.tokens, spend.nano_usd
            self._tokens[spend.name] += tokens
            self._nano[spend.name] += nano
            if not is_measured:
                continue
            if bound.tokens:
                self._ratio.observe(tokens / bound.tokens)
            if tokens > bound.tokens:
                self._overrun_tokens += tokens - bound.tokens
            if nano > bound.nano_usd:
                self._overrun_nano += nano - bound.nano_usd

    def _families(self) -> Iterator[Metric]:
        yield self._counter(PodSeries.BUDGET_REFUSED, self._refused)
        yield self._histogram(PodSeries.BUDGET_RATIO, self._ratio)
        yield self._histogram(PodSeries.BUDGET_WAIT, self._wait)
        yield self._plain(PodSeries.BUDGET_OVERRUN_TOKENS, self._overrun_tokens)
        yield self._plain(PodSeries.BUDGET_OVERRUN_USD, self._overrun_nano / NANO_PER_USD)
        yield self._counter(PodSeries.BUDGET_TOKENS, self._tokens)
        dollars = {model: nano / NANO_PER_USD for model, nano in self._nano.items()}
        yield self._counter(PodSeries.BUDGET_USD, dollars)
        yield self._counter(PodSeries.BUDGET_UNMEASURED, self._unmeasured)

    def _plain(self, series: PodSeries, value: float) -> Metric:
        family = CounterMetricFamily(series.value, series.doc, labels=series.labels)
        family.add_metric((self._agent,), value)
        return family

    def _counter(self, series: PodSeries, values: dict[str, float] | Counter[str]) -> Metric:
        family = CounterMetricFamily(series.value, series.doc, labels=series.labels)
        for value, count in values.items():
            family.add_metric((self._agent, value), count)
        return family

    def _histogram(self, series: PodSeries, distribution: _Distribution) -> Metric:
        family = HistogramMetricFamily(series.value, series.doc, labels=series.labels)
        family.add_metric((self._agent,), distribution.buckets(), distribution.total)
        return family


def _text(bound: float) -> str:
    return str(float(bound))
