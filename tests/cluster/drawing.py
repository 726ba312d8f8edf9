"""The dashboards asked of a real Prometheus, as Grafana would, and drawn from what it answers."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from charts.grafana.picture import Line, picture

from .scene import BUSY, Scene
from .scraper import Prometheus
from .shipped import run

SECONDS = 300
STEP = 4
_BURST, _BURST_EVERY = 60, 20
_NOTE = "Drawn from the dashboard's own queries, answered by a real Prometheus that scrapes the dev cluster. Not drawn by Grafana."
_NO_POINTS = frozenset({"NaN", "+Inf", "-Inf"})


def queries(panel: Mapping[str, Any], namespace: str, *, rate_interval: str) -> list[tuple[str, str]]:
    """Each query of a panel as Grafana would send it for one namespace and all of its agents, and its legend."""
    chosen = (("$__rate_interval", rate_interval), ("$namespace", namespace), ("$name", ".*"))
    found: list[tuple[str, str]] = []
    for target in panel.get("targets", ()):
        expression = target["expr"]
        for variable, value in chosen:
            expression = expression.replace(variable, value)
        assert "$" not in expression, expression
        found.append((expression, target.get("legendFormat", "")))
    return found


def draw(scene: Scene, scraper: Prometheus, *, dashboards: Sequence[Path], folder: Path) -> None:
    """Keep the agents busy for a while, with a load that comes and goes, and write a picture of each dashboard."""
    began = time.time()
    number = 1000
    while (past := time.time() - began) < SECONDS:
        number += 1
        scene.round(number)
        for extra in range(round(4 + 4 * math.sin(past / 30))):
            run(scene.agent(BUSY), f"Again {number - extra % 3}")
        if number % _BURST_EVERY == 0:
            for extra in range(_BURST):
                scene.submit(f"Task {number} of a burst: {extra}")
    folder.mkdir(parents=True, exist_ok=True)
    for path in dashboards:
        dashboard = json.loads(path.read_text())
        lines = {
            panel["id"]: [
                line
                for expression, legend in queries(panel, scene.namespace, rate_interval="20s")
                for line in _lines(scraper, expression, legend, began)
            ]
            for panel in dashboard["panels"]
        }
        (folder / f"dashboard-{path.stem}.svg").write_text(picture(dashboard, lines, note=_NOTE))


def _lines(scraper: Prometheus, expression: str, legend: str, began: float) -> Iterator[Line]:
    for series in scraper.over_time(expression, start=began, end=time.time(), step=STEP):
        points = [(float(when), float(value)) for when, value in series["values"] if value not in _NO_POINTS]
        named = re.sub(r"\{\{(\w+)\}\}", lambda found, of=series["metric"]: of.get(found[1], ""), legend)
        yield Line(legend=named, points=points)
