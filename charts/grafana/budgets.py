"""Decides what the dashboard on budgets shows: one for the fleet, narrowed by namespace and agent."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from agentservice_api.series import OperatorSeries, PodSeries
from grafana.panels import AGENT, CHOSEN, chosen_by, dashboard, lines, quantile, rate, shares

_LEGEND: str = "{{namespace}}/{{name}} {{window}} {{unit}}"


def budgets() -> Dashboard:
    """Return the dashboard."""
    limit = f"({OperatorSeries.BUDGET_LIMIT}{{{CHOSEN}}} > 0)"
    share = f"{OperatorSeries.BUDGET_USED}{{{CHOSEN}}} / {limit}"
    ratios = ((0.5, "median"), (0.99, "99 of 100"))
    panels = [
        shares("Used of each limit", share, _LEGEND),
        lines(
            "Used over time",
            [(share, _LEGEND)],
            unit="percentunit",
            about="Steps are as large as what a pod takes at once: about 1 % of a window.",
        ),
        lines(
            "US dollars spent an hour, by model",
            [(f"{rate(PodSeries.BUDGET_USD, AGENT, by='model')} * 3600", "{{model}}")],
            unit="currencyUSD",
        ),
        lines(
            "Tokens a second, by model",
            [(rate(PodSeries.BUDGET_TOKENS, AGENT, by="model"), "{{model}}")],
            unit="short",
        ),
        lines(
            "Refused model requests a second, by reason",
            [(rate(PodSeries.BUDGET_REFUSED, AGENT, by="reason"), "{{reason}}")],
            unit="reqps",
            width=8,
        ),
        lines(
            "In hand for requests, of each limit",
            [(f"{OperatorSeries.BUDGET_RESERVED}{{{CHOSEN}}} / {limit}", _LEGEND)],
            unit="percentunit",
            width=8,
        ),
        lines(
            "Presumed spent, and billed beyond the limit",
            [
                (f"{OperatorSeries.BUDGET_PRESUMED}{{{CHOSEN}}} > 0", f"presumed {_LEGEND}"),
                (f"{OperatorSeries.BUDGET_OVERRUN}{{{CHOSEN}}} > 0", f"beyond {_LEGEND}"),
            ],
            unit="short",
            width=8,
            about="Presumed is what nobody can tell, because its process died. Empty when there is neither.",
        ),
        lines(
            "Billed for each token reserved",
            [(quantile(share, PodSeries.BUDGET_RATIO, AGENT), name) for share, name in ratios],
            unit="short",
            about="Above 1 a provider billed more than the bound of its request.",
        ),
        lines(
            "Seconds that a request waits for its reservation, 99 of 100",
            [(quantile(0.99, PodSeries.BUDGET_WAIT, AGENT), "wait")],
            unit="s",
        ),
    ]
    return chosen_by(dashboard("budgets", "budgets", [("", panels)]), OperatorSeries.BUDGET_USED, label="name")
