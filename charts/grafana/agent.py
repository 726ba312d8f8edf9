"""Decides what the dashboard on one agent shows: its runs, models, cache, tasks, tools and pods."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from agentservice_api.series import PodSeries
from grafana.panels import AGENT, chosen_by, dashboard, lines, number, quantile, quantiles, rate


def agent() -> Dashboard:
    """Return the dashboard."""
    failed = rate(PodSeries.RUNS, f'{AGENT},status!~"success|cancelled"')
    every = rate(PodSeries.RUNS, AGENT)
    rows = [
        (
            "",
            [
                number("Runs a second", every, unit="reqps"),
                number(
                    "Failed or refused", f"{failed} / ({every} > 0) or vector(0)", unit="percentunit", red_above=0.05
                ),
                number("Half of the runs take less than", quantile(0.5, PodSeries.RUN_SECONDS, AGENT), unit="s"),
                number("Runs under way", f"sum({PodSeries.ACTIVE}{{{AGENT}}})", unit="short"),
                number("US dollars an hour", f"{rate(PodSeries.COST, AGENT)} * 3600 or vector(0)", unit="currencyUSD"),
                number("Pods", f"count({PodSeries.INFO}{{{AGENT}}})", unit="short"),
            ],
        ),
        (
            "Runs",
            [
                lines(
                    "Runs a second, by outcome",
                    [(rate(PodSeries.RUNS, AGENT, by="status"), "{{status}}")],
                    unit="reqps",
                ),
                lines("Seconds that runs take", quantiles(PodSeries.RUN_SECONDS, AGENT), unit="s"),
                lines(
                    "Runs under way, waiting, and slots",
                    [
                        (f"sum({PodSeries.ACTIVE}{{{AGENT}}})", "under way"),
                        (f"sum({PodSeries.WAITING}{{{AGENT}}})", "waiting for a slot"),
                        (f"sum({PodSeries.SLOTS}{{{AGENT}}})", "slots"),
                    ],
                    unit="short",
                    about="Who waits too long for a slot is refused: 503, overloaded.",
                ),
                lines(
                    "Slow runs a second",
                    [(rate(PodSeries.SLOW_RUNS, AGENT), "beyond slowRunSeconds")],
                    unit="reqps",
                ),
            ],
        ),
        (
            "Models",
            [
                lines(
                    "Model requests a second, by model and outcome",
                    [(rate(PodSeries.MODEL_REQUESTS, AGENT, by="model, status"), "{{model}} {{status}}")],
                    unit="reqps",
                    about="Each attempt by itself.",
                ),
                lines(
                    "Seconds that model requests take, 95 of 100",
                    [(quantile(0.95, PodSeries.MODEL_SECONDS, AGENT, by="model"), "{{model}}")],
                    unit="s",
                ),
                lines(
                    "Seconds to the first token of a stream",
                    quantiles(PodSeries.FIRST_TOKEN_SECONDS, AGENT),
                    unit="s",
                    width=8,
                ),
                lines(
                    "Repeated, and taken over by a fallback",
                    [
                        (rate(PodSeries.RETRIES, AGENT, by="model, category"), "repeated {{model}} {{category}}"),
                        (
                            rate(PodSeries.FALLBACKS, AGENT, by="model, category"),
                            "taken over by {{model}} {{category}}",
                        ),
                    ],
                    unit="reqps",
                    width=8,
                ),
                lines(
                    "Tokens a second",
                    [(rate(PodSeries.TOKENS, AGENT, by="token_type"), "{{token_type}}")],
                    unit="short",
                    width=8,
                ),
                lines(
                    "US dollars an hour, by model",
                    [(f"{rate(PodSeries.COST, AGENT, by='model')} * 3600", "{{model}}")],
                    unit="currencyUSD",
                    about="Runs without a known price are left out.",
                ),
                lines(
                    "Model requests that the budget refused a second",
                    [(rate(PodSeries.BUDGET_REFUSED, AGENT, by="reason"), "{{reason}}")],
                    unit="reqps",
                    about="Only with spec.budget.",
                ),
            ],
        ),
        (
            "Cache",
            [
                lines(
                    "Runs a second, by what the cache did",
                    [(rate(PodSeries.CACHE_RUNS, AGENT, by="outcome"), "{{outcome}}")],
                    unit="reqps",
                    width=8,
                    about="Only with spec.cache.",
                ),
                lines(
                    "Tokens that it saved a second",
                    [(rate(PodSeries.CACHE_SAVED, AGENT), "saved")],
                    unit="short",
                    width=8,
                ),
                lines(
                    "Answers that were not kept a second",
                    [(rate(PodSeries.CACHE_NOT_KEPT, AGENT, by="reason"), "{{reason}}")],
                    unit="reqps",
                    width=8,
                ),
            ],
        ),
        (
            "Tasks",
            [
                lines(
                    "Tasks in the queue",
                    [(f"max by (state) ({PodSeries.TASKS_QUEUE}{{{AGENT}}})", "{{state}}")],
                    unit="short",
                    width=8,
                    about="Only with spec.queue. Each pod tells of the whole queue.",
                ),
                lines(
                    "Age of the oldest",
                    [(f"max({PodSeries.TASKS_OLDEST}{{{AGENT}}})", "waiting or running")],
                    unit="s",
                    width=8,
                ),
                lines("Seconds from taking in to the end", quantiles(PodSeries.TASKS_AGE, AGENT), unit="s", width=8),
                lines(
                    "Taken in, begun and ended a second",
                    [
                        (rate(PodSeries.TASKS_SUBMITTED, AGENT), "taken in"),
                        (rate(PodSeries.TASKS_ATTEMPTS, AGENT), "begun"),
                        (rate(PodSeries.TASKS_FINISHED, AGENT, by="status"), "{{status}}"),
                    ],
                    unit="reqps",
                ),
                lines(
                    "Begun again and given up a second",
                    [
                        (rate(PodSeries.TASKS_RETRIED, AGENT, by="category"), "tried again {{category}}"),
                        (rate(PodSeries.TASKS_RETURNED, AGENT), "given back by pods that stop"),
                        (rate(PodSeries.TASKS_LOST, AGENT), "lost with their pods"),
                        (rate(PodSeries.TASKS_DEAD, AGENT, by="reason"), "given up {{reason}}"),
                    ],
                    unit="reqps",
                ),
            ],
        ),
        (
            "Tools",
            [
                lines(
                    "Calls a second, by tool and outcome",
                    [(rate(PodSeries.TOOL_CALLS, AGENT, by="tool, status"), "{{tool}} {{status}}")],
                    unit="reqps",
                ),
                lines(
                    "Seconds that calls take, 95 of 100",
                    [(quantile(0.95, PodSeries.TOOL_SECONDS, AGENT, by="tool"), "{{tool}}")],
                    unit="s",
                ),
            ],
        ),
        (
            "Pods",
            [
                lines(
                    "Memory, by pod",
                    [(f"process_resident_memory_bytes * on (namespace, pod) group_left () {_pods()}", "{{pod}}")],
                    unit="bytes",
                    width=8,
                ),
                lines(
                    "Cores in use, by pod",
                    [
                        (
                            f"rate(process_cpu_seconds_total[$__rate_interval]) * on (namespace, pod) group_left () {_pods()}",
                            "{{pod}}",
                        )
                    ],
                    unit="short",
                    width=8,
                ),
                lines(
                    "Pods by revision, and those that drain",
                    [
                        (f"count by (revision) ({PodSeries.INFO}{{{AGENT}}})", "{{revision}}"),
                        (f"sum({PodSeries.DRAINING}{{{AGENT}}})", "draining"),
                    ],
                    unit="short",
                    width=8,
                ),
                lines(
                    "Spans sent and lost a second",
                    [(rate(PodSeries.SPANS, AGENT, by="outcome"), "{{outcome}}")],
                    unit="short",
                    about="Only with spec.observability.otlp or logfire.",
                ),
            ],
        ),
    ]
    return chosen_by(dashboard("agent", "one agent", rows), PodSeries.RUNS, label="agent_name", several=False)


def _pods() -> str:
    return f"group by (namespace, pod) ({PodSeries.INFO}{{{AGENT}}})"
