"""Writes the Grafana dashboards that the chart ships, so that panels of one kind look alike and queries are said once.

Run as ``python charts/dashboards.py [--check]``. The model is Grafana's dashboard JSON (schema version 39, Grafana 11 and later).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "agentservice-operator" / "files" / "dashboards"
_SELECT = 'namespace=~"$namespace",name=~"$name"'
_AGENT = 'namespace=~"$namespace",agent_name=~"$name"'
_COLUMNS = 24


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` only tell; return the exit code: 1 when the check finds a file stale."""
    stale = False
    for name, dashboard in {"budgets.json": budgets()}.items():
        path, text = FOLDER / name, json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if "--check" in arguments:
            print(f"{path.name} is stale: run `make generate` and commit the result", file=sys.stderr)
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return 1 if stale and "--check" in arguments else 0


def budgets() -> dict[str, Any]:
    """Return the dashboard on budgets: one for the fleet, narrowed by namespace and agent."""
    share = f"agentservice_budget_used{{{_SELECT}}} / (agentservice_budget_limit{{{_SELECT}}} > 0)"
    panels = [
        _bars("Used of each limit", share, "{{namespace}}/{{name}} {{window}} {{unit}}", width=12),
        _lines(
            "Used over time",
            [(share, "{{namespace}}/{{name}} {{window}} {{unit}}")],
            unit="percentunit",
            width=12,
            about="Steps are as large as what a pod takes at once: about 1 % of a window.",
        ),
        _lines(
            "US dollars spent an hour, by model",
            [
                (
                    f"sum by (model) (rate(agentservice_budget_settled_usd_total{{{_AGENT}}}[$__rate_interval])) * 3600",
                    "{{model}}",
                )
            ],
            unit="currencyUSD",
            width=12,
        ),
        _lines(
            "Tokens a second, by model",
            [
                (
                    f"sum by (model) (rate(agentservice_budget_settled_tokens_total{{{_AGENT}}}[$__rate_interval]))",
                    "{{model}}",
                )
            ],
            unit="short",
            width=12,
        ),
        _lines(
            "Refused model requests a second, by reason",
            [
                (
                    f"sum by (reason) (rate(agentservice_budget_refused_total{{{_AGENT}}}[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            unit="reqps",
            width=8,
        ),
        _lines(
            "In hand for requests, of each limit",
            [
                (
                    f"agentservice_budget_reserved{{{_SELECT}}} / (agentservice_budget_limit{{{_SELECT}}} > 0)",
                    "{{namespace}}/{{name}} {{window}} {{unit}}",
                )
            ],
            unit="percentunit",
            width=8,
        ),
        _lines(
            "Counted as spent because nobody can tell, and billed beyond the limit",
            [
                (
                    f"agentservice_budget_presumed{{{_SELECT}}} > 0",
                    "presumed {{namespace}}/{{name}} {{window}} {{unit}}",
                ),
                (f"agentservice_budget_overrun{{{_SELECT}}} > 0", "beyond {{namespace}}/{{name}} {{window}} {{unit}}"),
            ],
            unit="short",
            width=8,
        ),
        _lines(
            "Billed for each token reserved",
            [
                (
                    f"histogram_quantile({quantile}, sum by (le) (rate(agentservice_budget_estimate_ratio_bucket{{{_AGENT}}}[$__rate_interval])))",
                    name,
                )
                for quantile, name in ((0.5, "median"), (0.99, "99 of 100"))
            ],
            unit="short",
            width=12,
            about="Above 1 a provider billed more than the bound of its request.",
        ),
        _lines(
            "Seconds that a request waits for its reservation, 99 of 100",
            [
                (
                    f"histogram_quantile(0.99, sum by (le) (rate(agentservice_budget_wait_seconds_bucket{{{_AGENT}}}[$__rate_interval])))",
                    "wait",
                )
            ],
            unit="s",
            width=12,
        ),
    ]
    return {
        "uid": "agentservice-budgets",
        "title": "Agents: budgets",
        "tags": ["agentservice"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                _variable("namespace", "label_values(agentservice_budget_used, namespace)"),
                _variable("name", 'label_values(agentservice_budget_used{namespace=~"$namespace"}, name)'),
            ]
        },
        "panels": _placed(panels),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _source(),
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _lines(title: str, queries: list[tuple[str, str]], *, unit: str, width: int, about: str = "") -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        **({"description": about} if about else {}),
        "gridPos": {"w": width, "h": 8},
        "datasource": _source(),
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "targets": _targets(queries),
    }


def _bars(title: str, query: str, legend: str, *, width: int) -> dict[str, Any]:
    steps = [{"color": "green", "value": None}, {"color": "orange", "value": 0.8}, {"color": "red", "value": 1}]
    return {
        "type": "bargauge",
        "title": title,
        "gridPos": {"w": width, "h": 8},
        "datasource": _source(),
        "fieldConfig": {
            "defaults": {
                "unit": "percentunit",
                "min": 0,
                "max": 1,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"orientation": "horizontal", "displayMode": "gradient"},
        "targets": [{**target, "instant": True} for target in _targets([(query, legend)])],
    }


def _targets(queries: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"refId": chr(ord("A") + index), "datasource": _source(), "expr": expr, "legendFormat": legend}
        for index, (expr, legend) in enumerate(queries)
    ]


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}


def _placed(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each panel its place: row by row, from the left."""
    x = y = row_height = 0
    found = list[dict[str, Any]]()
    for number, panel in enumerate(panels, start=1):
        size = panel["gridPos"]
        if x + size["w"] > _COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        found.append({**panel, "id": number, "gridPos": {"x": x, "y": y, **size}})
        x, row_height = x + size["w"], max(row_height, size["h"])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
