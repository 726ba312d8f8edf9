"""Decides how budgets look in the metrics: read from what the reconciles saw last, when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentservice_api.budget import UNLIMITED, Amount
from agentservice_api.budget.amount import NANO_PER_USD
from agentservice_api.series import OperatorSeries
from agentservice_operator.budget import Figures
from agentservice_operator.manifest import Key

_SERIES: Final[tuple[tuple[OperatorSeries, Callable[[Figures], Amount]], ...]] = (
    (OperatorSeries.BUDGET_LIMIT, lambda window: window.limit),
    (OperatorSeries.BUDGET_USED, lambda window: window.spent),
    (OperatorSeries.BUDGET_RESERVED, lambda window: window.held),
    (OperatorSeries.BUDGET_PRESUMED, lambda window: window.presumed),
    (OperatorSeries.BUDGET_OVERRUN, lambda window: window.overrun),
)


class BudgetMetrics(Collector):
    """Gauges {namespace, name, window, unit}, in tokens and in US dollars."""

    def __init__(self) -> None:
        self._windows: dict[Key, tuple[Figures, ...]] = {}

    def tell(self, key: Key, windows: Sequence[Figures]) -> None:
        """Take the current windows of an AgentService; none when it has no budget or is gone."""
        if windows:
            self._windows[key] = tuple(windows)
        else:
            self._windows.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""
        for series, of in _SERIES:
            family = GaugeMetricFamily(series.value, series.doc, labels=series.labels)
            for key, windows in self._windows.items():
                for window in windows:
                    amount = of(window)
                    if amount.tokens != UNLIMITED.tokens:
                        family.add_metric([*key, window.name, "tokens"], amount.tokens)
                    if amount.nano_usd != UNLIMITED.nano_usd:
                        family.add_metric([*key, window.name, "usd"], amount.nano_usd / NANO_PER_USD)
            yield family
