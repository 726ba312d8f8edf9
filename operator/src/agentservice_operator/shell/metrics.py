"""Decides which metrics there are: controller-runtime's names and shapes, so that existing dashboards fit, and our own.

https://book.kubebuilder.io/reference/metrics-reference lists controller-runtime's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from agentservice_api.series import OperatorSeries
from agentservice_operator.kube.client import Exchange
from agentservice_operator.manifest import Key
from agentservice_operator.queue import WorkQueue
from agentservice_operator.shell.budget_metrics import BudgetMetrics

CONTROLLER = "agentservice"
CONTENT_TYPE = CONTENT_TYPE_LATEST

_WORK_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Outcome(Enum):
    """Label `result` of `controller_runtime_reconcile_total`."""

    SUCCESS = "success"
    REQUEUE_AFTER = "requeue_after"
    ERROR = "error"


class Metrics:
    """All series of this process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        registry = self.registry
        self._reconciles = _counter(registry, OperatorSeries.RECONCILES)
        self._reconcile_errors = _counter(registry, OperatorSeries.RECONCILE_ERRORS)
        self._reconcile_seconds = _histogram(registry, OperatorSeries.RECONCILE_SECONDS)
        self._active = _gauge(registry, OperatorSeries.ACTIVE_WORKERS)
        self._workers = _gauge(registry, OperatorSeries.WORKERS)
        self._requests = _counter(registry, OperatorSeries.API_REQUESTS)
        self._request_seconds = _histogram(registry, OperatorSeries.API_SECONDS)
        self._leader = _gauge(registry, OperatorSeries.LEADER)
        self._conditions = _ConditionCollector()
        registry.register(self._conditions)
        self.budgets = BudgetMetrics()
        registry.register(self.budgets)
        for outcome in Outcome:
            self._reconciles.labels(CONTROLLER, outcome.value)
        self._reconcile_errors.labels(CONTROLLER)
        self._active.labels(CONTROLLER)

    def render(self) -> bytes:
        """The exposition in Prometheus's text format."""
        return generate_latest(self.registry)

    def workers(self, number: int) -> None:
        self._workers.labels(CONTROLLER).set(number)

    def reconcile_began(self) -> None:
        self._active.labels(CONTROLLER).inc()

    def reconcile_ended(self, outcome: Outcome, *, seconds: float) -> None:
        self._active.labels(CONTROLLER).dec()
        self._reconciles.labels(CONTROLLER, outcome.value).inc()
        self._reconcile_seconds.labels(CONTROLLER).observe(seconds)
        if outcome is Outcome.ERROR:
            self._reconcile_errors.labels(CONTROLLER).inc()

    def request_observer(self, host: str) -> Callable[[Exchange], None]:
        """What a client calls after each exchange with `host`."""
        counters: dict[tuple[str, str], Counter] = {}
        timers: dict[tuple[str, str], Histogram] = {}

        def observe(exchange: Exchange) -> None:
            code, method, verb, label = exchange.code, exchange.method, exchange.verb, exchange.resource.label
            counter = counters.get((code, method))
            if counter is None:
                counter = counters[code, method] = self._requests.labels(code, host, method)
            counter.inc()
            timer = timers.get((verb, label))
            if timer is None:
                timer = timers[verb, label] = self._request_seconds.labels(verb, label)
            timer.observe(exchange.seconds)

        return observe

    def leading(self, lease: str, leads: bool) -> None:
        self._leader.labels(lease).set(1 if leads else 0)

    def set_conditions(self, key: Key, statuses: Mapping[str, str]) -> None:
        """The status of each condition, by type, that the object has now; none when it is gone. Other series are dropped."""
        self._conditions.tell(key, statuses)

    def queue_observer(self) -> QueueMetrics:
        return QueueMetrics(self.registry)

    def watch_queue(self, queue: WorkQueue) -> None:
        """Let depth and the age of running work be read from the queue at each scrape."""
        self.registry.register(_QueueCollector(queue))


class QueueMetrics:
    """`queue.QueueObserver` in client-go's workqueue metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        adds, retries = _counter(registry, OperatorSeries.QUEUE_ADDS), _counter(registry, OperatorSeries.QUEUE_RETRIES)
        self._adds = adds.labels(CONTROLLER, CONTROLLER)
        self._retries = retries.labels(CONTROLLER, CONTROLLER)
        self._waited = _histogram(registry, OperatorSeries.QUEUE_WAITED).labels(CONTROLLER, CONTROLLER)
        self._took = _histogram(registry, OperatorSeries.QUEUE_WORKED).labels(CONTROLLER, CONTROLLER)

    def added(self) -> None:
        self._adds.inc()

    def retried(self) -> None:
        self._retries.inc()

    def started(self, *, waited: float) -> None:
        self._waited.observe(waited)

    def finished(self, *, took: float) -> None:
        self._took.observe(took)


class _ConditionCollector(Collector):
    """A gauge of each condition, made when Prometheus asks: as objects of its library they would be 1 kB each."""

    def __init__(self) -> None:
        self._told: dict[Key, tuple[tuple[str, str], ...]] = {}

    def tell(self, key: Key, statuses: Mapping[str, str]) -> None:
        if statuses:
            self._told[key] = tuple((sys.intern(kind), sys.intern(status)) for kind, status in statuses.items())
        else:
            self._told.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        series = OperatorSeries.CONDITION
        family = GaugeMetricFamily(series.value, series.doc, labels=series.labels)
        for key, conditions in self._told.items():
            for pair in conditions:
                family.add_metric([*key, *pair], 1.0)
        yield family


class _QueueCollector(Collector):
    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterable[Metric]:
        running = self._queue.running().values()
        for series, value in (
            (OperatorSeries.QUEUE_DEPTH, self._queue.depth),
            (OperatorSeries.QUEUE_UNFINISHED, sum(running)),
            (OperatorSeries.QUEUE_LONGEST, max(running, default=0)),
        ):
            family = GaugeMetricFamily(series.value, series.doc, labels=series.labels)
            family.add_metric([CONTROLLER, CONTROLLER], float(value))
            yield family


def _counter(registry: CollectorRegistry, series: OperatorSeries) -> Counter:
    return Counter(series.value, series.doc, series.labels, registry=registry)


def _gauge(registry: CollectorRegistry, series: OperatorSeries) -> Gauge:
    return Gauge(series.value, series.doc, series.labels, registry=registry)


def _histogram(registry: CollectorRegistry, series: OperatorSeries) -> Histogram:
    return Histogram(series.value, series.doc, series.labels, buckets=_WORK_SECONDS, registry=registry)
