"""Writes the Grafana dashboards that the chart ships: Grafana 10.1 and later, by grafana-foundation-sdk.

Run as ``python charts/dashboards.py [--check]``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from grafana.agent import agent
from grafana.budgets import budgets
from grafana.fleet import fleet
from grafana.operator import operator
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER: Final = Path(__file__).parent / "agentservice-operator" / "files" / "dashboards"
DASHBOARDS: Final = {"agent": agent, "budgets": budgets, "fleet": fleet, "operator": operator}


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` only tell; return the exit code: 1 when the check finds a file stale."""
    stale = False
    for name, make in DASHBOARDS.items():
        path, text = FOLDER / f"{name}.json", written(make())
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


def written(made: Dashboard) -> str:
    """Return the JSON of a dashboard: equal dashboards give equal texts."""
    content: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    return json.dumps(dict(_tidy(content)), indent=2, ensure_ascii=False) + "\n"


def _tidy(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members without those that say nothing, and with a number for each panel."""
    numbers = iter(range(1, 1000))
    for key, value in content.items():
        if key == "panels":
            yield key, [{**{k: v for k, v in panel.items() if v is not None}, "id": next(numbers)} for panel in value]
        else:
            yield key, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
