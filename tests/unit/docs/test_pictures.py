"""The pictures of the dashboards: what is drawn, and that the drawn ones are those that the chart ships."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from charts.grafana.picture import Line, picture

ROOT = Path(__file__).parents[3]
DASHBOARDS = sorted((ROOT / "charts" / "agentservice-operator" / "files" / "dashboards").glob("*.json"))
GREEN, RED = "#73bf69", "#f2495c"


def panel(number: int, kind: str, title: str, *, unit: str = "short", width: int = 12) -> dict:
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
    return {
        "id": number,
        "type": kind,
        "title": title,
        "gridPos": {"x": 0, "y": 8 * number, "w": width, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"steps": steps}}},
    }


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def drawn(panel: dict, *lines: Line) -> str:
    return picture({"title": "Agents", "panels": [panel]}, {panel["id"]: lines}, note="drawn")


def test_a_number_is_that_of_the_last_moment_in_its_unit_and_its_thresholds_color():
    share = panel(1, "stat", "Failed", unit="percentunit")
    for value, color in ((0.25, GREEN), (1.0, RED)):
        svg = drawn(share, Line(legend="", points=[(0, 0.5), (60, value)]))
        assert f"{value * 100:g} %" in texts(svg)
        assert f'font-size="30" fill="{color}"' in svg


def test_lines_are_named_and_their_axis_ends_at_a_round_number():
    svg = drawn(panel(1, "timeseries", "Runs <a second>"), Line(legend="a & b", points=[(0, 0), (30, 37), (60, 12)]))
    assert {"Runs <a second>", "a & b", "40", "20", "0", "00:00:00", "00:01:00"} <= set(texts(svg))
    assert svg.count("<polyline") == 1


def test_of_many_lines_all_are_drawn_and_some_are_named():
    lines = [Line(legend=f"line {number}", points=[(0, number), (1, number)]) for number in range(9)]
    svg = drawn(panel(1, "timeseries", "Runs"), *lines)
    assert svg.count("<polyline") == 9
    assert "line 4" in texts(svg)
    assert "and 4 more" in texts(svg)


def test_a_panel_without_data_says_so():
    assert "No data" in texts(drawn(panel(1, "timeseries", "Runs"), Line(legend="x", points=[])))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_each_dashboard_is_drawn_as_it_is_with_data_in_every_panel_and_says_that_it_is_no_screenshot(dashboard: Path):
    svg = (ROOT / "docs" / "images" / f"dashboard-{dashboard.stem}.svg").read_text()
    told = texts(svg)
    titles = [each["title"] for each in json.loads(dashboard.read_text())["panels"]]
    missing = {title for title in titles if title not in told and f"▾ {title}" not in told}
    assert not missing, "its panels have changed: run `make pictures`"
    assert "No data" not in told
    assert any("Not drawn by Grafana" in text for text in told)
