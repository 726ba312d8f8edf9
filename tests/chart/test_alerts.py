"""Alerts and dashboards: promtool accepts the rules and their unit tests, and every metric that they name exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from agentservice_api.series import OperatorSeries, PodSeries
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.promtool import promtool
from devcluster.settings import read_settings

HERE = Path(__file__).parent
FILES = HERE.parents[1] / "charts" / "agentservice-operator" / "files"
ALERTS = sorted(FILES.glob("*-alerts.yaml"))
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
NAME = re.compile(r"\b(?:agentservice|pydantic_ai|controller_runtime|workqueue|rest_client|leader_election)_[a-z0-9_]+")
each_alerts = pytest.mark.parametrize("alerts", ALERTS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def judge() -> str:
    settings = read_settings()
    try:
        return str(promtool(settings, progress=Progress()))
    except ClusterError as error:
        if settings.ci:
            pytest.fail(str(error))
        pytest.skip(str(error))


@each_alerts
def test_promtool_accepts_the_rules(judge: str, alerts: Path):
    done = subprocess.run([judge, "check", "rules", str(alerts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


@each_alerts
def test_each_alert_fires_when_it_should_and_only_then_and_each_recorded_series_is_right(
    judge: str, tmp_path: Path, alerts: Path
):
    cases = HERE / f"{alerts.stem}.test.yaml"
    for file in (alerts, cases):
        shutil.copy(file, tmp_path)
    command = [judge, "test", "rules", cases.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = {
        case["alertname"]
        for test in yaml.safe_load(cases.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    rules = [rule for group in yaml.safe_load(alerts.read_text())["groups"] for rule in group["rules"]]
    assert tested == {rule["alert"] for rule in rules if "alert" in rule}
    assert all(rule["record"] in cases.read_text() for rule in rules if "record" in rule)


def exposed() -> set[str]:
    """The names of what operator and pods tell, and those under which Prometheus stores it."""
    return {
        name for kinds in (PodSeries, OperatorSeries) for series in kinds for name in (series.value, *series.stored)
    }


@pytest.mark.parametrize("file", [*ALERTS, *DASHBOARDS], ids=lambda path: path.stem)
def test_every_metric_that_is_named_exists(file: Path):
    named = set(NAME.findall(file.read_text()))
    assert named
    assert named <= exposed()


def test_the_chart_ships_both_when_asked(chart):
    assert {"PrometheusRule", "ConfigMap"}.isdisjoint(chart.render().kinds)
    values = {
        "metrics": {"prometheusRule": {"enabled": True, "labels": {"release": "p"}}, "dashboards": {"enabled": True}}
    }
    rendered = chart.render(values)
    rules = rendered.all("PrometheusRule")
    assert [rule["spec"] for rule in rules] == [yaml.safe_load(path.read_text()) for path in ALERTS]
    assert {rule["metadata"]["labels"]["release"] for rule in rules} == {"p"}
    dashboards = rendered.one("ConfigMap")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text) for name, text in dashboards["data"].items()} == {
        path.name: json.loads(path.read_text()) for path in DASHBOARDS
    }


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_the_panels_of_a_dashboard_do_not_overlap(dashboard: Path):
    taken = set()
    for panel in json.loads(dashboard.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
