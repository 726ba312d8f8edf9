"""Decides how the queue is counted. The series stand in `agentservice_api.series`."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from agentservice_api.series import PodSeries
from agentservice_runtime.metrics import counter, gauge, histogram
from agentservice_runtime.tasks.store import Swept
from agentservice_runtime.tasks.task import Reason, Status

_BUCKETS: Final = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
"""Seconds: a task may wait for hours."""
_STATES: Final = ("waiting", "running", "delayed")


class TaskMetrics:
    """The series of one process. Gauges tell of the whole queue, as each process last saw it."""

    def __init__(self, registry: CollectorRegistry, *, agent_name: str) -> None:
        self._agent = agent_name
        self._submitted = counter(registry, PodSeries.TASKS_SUBMITTED)
        self._attempts = counter(registry, PodSeries.TASKS_ATTEMPTS)
        self._finished = counter(registry, PodSeries.TASKS_FINISHED)
        self._retried = counter(registry, PodSeries.TASKS_RETRIED)
        self._lost = counter(registry, PodSeries.TASKS_LOST)
        self._returned = counter(registry, PodSeries.TASKS_RETURNED)
        self._dead = counter(registry, PodSeries.TASKS_DEAD)
        self._queue = gauge(registry, PodSeries.TASKS_QUEUE)
        self._oldest = gauge(registry, PodSeries.TASKS_OLDEST)
        self._age = histogram(registry, PodSeries.TASKS_AGE, _BUCKETS)
        for series in (self._submitted, self._attempts, self._lost, self._returned, self._age):
            series.labels(agent_name)
        for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED):
            self._finished.labels(agent_name, status)
        for reason in Reason:
            self._dead.labels(agent_name, reason)

    def submitted(self) -> None:
        """Count a task that was taken in."""
        self._submitted.labels(self._agent).inc()

    def begun(self) -> None:
        """Count an attempt."""
        self._attempts.labels(self._agent).inc()

    def finished(self, status: Status, *, seconds: float, reason: str) -> None:
        """Count a task whose end this process has written."""
        self._finished.labels(self._agent, status).inc()
        self._age.labels(self._agent).observe(max(0.0, seconds))
        if reason:
            self._dead.labels(self._agent, reason).inc()

    def retried(self, *, category: str) -> None:
        """Count a task that is tried again."""
        self._retried.labels(self._agent, category).inc()

    def returned(self) -> None:
        """Count a task that is given back because this process stops."""
        self._returned.labels(self._agent).inc()

    def swept(self, swept: Swept) -> None:
        """Tell how long the queue is, and count what a sweep found."""
        self._lost.labels(self._agent).inc(swept.lost)
        self._finished.labels(self._agent, Status.FAILED).inc(swept.dead)
        self._dead.labels(self._agent, Reason.WORKERS).inc(swept.dead)
        for state, count in zip(_STATES, (swept.waiting, swept.running, swept.delayed), strict=True):
            self._queue.labels(self._agent, state).set(count)
        self._oldest.labels(self._agent).set(swept.oldest_seconds)
