"""Decides what the dashboard on the operator shows: whether it keeps up, and whether the API server lets it."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from agentservice_api.series import OperatorSeries
from grafana.panels import dashboard, lines, number, quantile, quantiles, rate

_OURS: Final = 'controller="agentservice"'


def operator() -> Dashboard:
    """Return the dashboard."""
    # 1 for each: what is multiplied by it stays as it is
    pods = f"group by (namespace, pod) ({OperatorSeries.WORKERS}{{{_OURS}}})"
    rows = [
        (
            "",
            [
                number(
                    "Leaders", f"sum({OperatorSeries.LEADER} * on (namespace, pod) {pods})", unit="short", about="One."
                ),
                number("Reconciles a second", rate(OperatorSeries.RECONCILES, _OURS), unit="reqps"),
                number("Errors a second", rate(OperatorSeries.RECONCILE_ERRORS, _OURS), unit="reqps", red_above=0.1),
                number("Keys that wait", f"sum({OperatorSeries.QUEUE_DEPTH}{{{_OURS}}})", unit="short"),
                number("Oldest work", f"max({OperatorSeries.QUEUE_LONGEST}{{{_OURS}}})", unit="s", red_above=60),
                number("Agents", f'count({OperatorSeries.CONDITION}{{type="Ready"}}) or vector(0)', unit="short"),
            ],
        ),
        (
            "Work",
            [
                lines(
                    "Reconciles a second, by result",
                    [(rate(OperatorSeries.RECONCILES, _OURS, by="result"), "{{result}}")],
                    unit="reqps",
                ),
                lines("Seconds that reconciles take", quantiles(OperatorSeries.RECONCILE_SECONDS, _OURS), unit="s"),
                lines(
                    "Seconds that keys wait, once due",
                    quantiles(OperatorSeries.QUEUE_WAITED, _OURS),
                    unit="s",
                ),
                lines(
                    "Keys that wait, and workers",
                    [
                        (f"sum({OperatorSeries.QUEUE_DEPTH}{{{_OURS}}})", "waiting"),
                        (f"sum({OperatorSeries.ACTIVE_WORKERS}{{{_OURS}}})", "workers at work"),
                        (f"max({OperatorSeries.WORKERS}{{{_OURS}}})", "workers"),
                    ],
                    unit="short",
                ),
            ],
        ),
        (
            "API server",
            [
                lines(
                    "Requests a second, by answer",
                    [
                        (
                            f"sum by (method, code) (rate({OperatorSeries.API_REQUESTS}[$__rate_interval]) * on (namespace, pod) group_left () {pods})",
                            "{{method}} {{code}}",
                        )
                    ],
                    unit="reqps",
                    about="At rest the operator writes nothing.",
                ),
                lines(
                    "Seconds that requests take, 99 of 100",
                    [
                        (
                            quantile(0.99, OperatorSeries.API_SECONDS, 'resource!=""', by="verb"),
                            "{{verb}}",
                        )
                    ],
                    unit="s",
                ),
            ],
        ),
        (
            "Process",
            [
                lines(
                    "Memory, by pod",
                    [(f"process_resident_memory_bytes * on (namespace, pod) group_left () {pods}", "{{pod}}")],
                    unit="bytes",
                ),
                lines(
                    "Cores in use, by pod",
                    [
                        (
                            f"rate(process_cpu_seconds_total[$__rate_interval]) * on (namespace, pod) group_left () {pods}",
                            "{{pod}}",
                        )
                    ],
                    unit="short",
                ),
            ],
        ),
    ]
    return dashboard("operator", "the operator", rows)
