"""Decides what the dashboard on all agents shows: who is not well, who is asked most, who costs most."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from agentservice_api.series import OperatorSeries, PodSeries
from grafana.panels import AGENT, CHOSEN, chosen_by, dashboard, lines, number, quantile, rate

_BY: str = "namespace, agent_name"
_LEGEND: str = "{{namespace}}/{{agent_name}}"
_NAMED: str = "{{namespace}}/{{name}}"


def fleet() -> Dashboard:
    """Return the dashboard."""
    condition = OperatorSeries.CONDITION
    failed = rate(PodSeries.RUNS, f'{AGENT},status!~"success|cancelled"', by=_BY)
    every = rate(PodSeries.RUNS, AGENT, by=_BY)
    cached = rate(PodSeries.CACHE_RUNS, f'{AGENT},outcome=~"hit|shared"', by=_BY)
    rows = [
        (
            "",
            [
                number("Agents", f'count({condition}{{{CHOSEN},type="Ready"}})', unit="short"),
                number(
                    "Not ready",
                    f'count({condition}{{{CHOSEN},type="Ready",status!="True"}}) or vector(0)',
                    unit="short",
                    red_above=1,
                ),
                number(
                    "Stalled",
                    f'count({condition}{{{CHOSEN},type="Stalled",status="True"}}) or vector(0)',
                    unit="short",
                    red_above=1,
                    about="Something that waiting cannot mend: kubectl get ags --all-namespaces",
                ),
                number("Runs a second", rate(PodSeries.RUNS, AGENT), unit="reqps"),
                number("Runs under way", f"sum({PodSeries.ACTIVE}{{{AGENT}}})", unit="short"),
                number("US dollars an hour", f"{rate(PodSeries.COST, AGENT)} * 3600 or vector(0)", unit="currencyUSD"),
            ],
        ),
        (
            "Health",
            [
                lines(
                    "Conditions that ask for somebody",
                    [
                        (f'{condition}{{{CHOSEN},type="Ready",status!="True"}}', f"not ready {_NAMED}"),
                        (f'{condition}{{{CHOSEN},type="Stalled",status="True"}}', f"stalled {_NAMED}"),
                        (f'{condition}{{{CHOSEN},type="BudgetAvailable",status="False"}}', f"no budget {_NAMED}"),
                    ],
                    unit="short",
                    about="Empty when all are well.",
                ),
                lines(
                    "Share of runs that fail or are refused",
                    [(f"{failed} / ({every} > 0)", _LEGEND)],
                    unit="percentunit",
                ),
            ],
        ),
        (
            "Load",
            [
                lines("Runs a second", [(every, _LEGEND)], unit="reqps"),
                lines(
                    "Seconds that runs take, 95 of 100",
                    [(quantile(0.95, PodSeries.RUN_SECONDS, AGENT, by=_BY), _LEGEND)],
                    unit="s",
                ),
                lines(
                    "Share of the slots in use",
                    [
                        (
                            f"sum by ({_BY}) ({PodSeries.ACTIVE}{{{AGENT}}}) / sum by ({_BY}) ({PodSeries.SLOTS}{{{AGENT}}})",
                            _LEGEND,
                        )
                    ],
                    unit="percentunit",
                ),
                lines("Pods", [(f"count by ({_BY}) ({PodSeries.INFO}{{{AGENT}}})", _LEGEND)], unit="short"),
                lines(
                    "Tasks that wait or are delayed",
                    [
                        (
                            f'sum by ({_BY}) (max by ({_BY}, state) ({PodSeries.TASKS_QUEUE}{{{AGENT},state!="running"}}))',
                            _LEGEND,
                        )
                    ],
                    unit="short",
                ),
                lines(
                    "Share of runs that a cache answered",
                    [(f"{cached} / ({rate(PodSeries.CACHE_RUNS, AGENT, by=_BY)} > 0)", _LEGEND)],
                    unit="percentunit",
                ),
            ],
        ),
        (
            "Cost",
            [
                lines(
                    "US dollars an hour",
                    [(f"{rate(PodSeries.COST, AGENT, by=_BY)} * 3600", _LEGEND)],
                    unit="currencyUSD",
                ),
                lines("Tokens a second", [(rate(PodSeries.TOKENS, AGENT, by=_BY), _LEGEND)], unit="short"),
                lines(
                    "Model requests a second, by model",
                    [(rate(PodSeries.MODEL_REQUESTS, AGENT, by="model"), "{{model}}")],
                    unit="reqps",
                ),
                lines(
                    "Model requests that failed a second, by model",
                    [(rate(PodSeries.MODEL_REQUESTS, f'{AGENT},status!~"success|cancelled"', by="model"), "{{model}}")],
                    unit="reqps",
                ),
            ],
        ),
    ]
    return chosen_by(dashboard("fleet", "all agents", rows), OperatorSeries.CONDITION, label="name")
