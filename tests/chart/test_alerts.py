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
ALERTS = FILES / "budget-alerts.yaml"
DASHBOARD = FILES / "dashboards" / "budgets.json"
NAME = re.compile(r"\bagentservice_[a-z_]+")


@pytest.fixture(scope="module")
def judge() -> str:
    settings = read_settings()
    try:
        return str(promtool(settings, progress=Progress()))
    except ClusterError as error:
        if settings.ci:
            pytest.fail(str(error))
        pytest.skip(str(error))


def test_promtool_accepts_the_alerts(judge: str):
    done = subprocess.run([judge, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_only_then(judge: str, tmp_path: Path):
    for file in (ALERTS, HERE / "budget-alerts.test.yaml"):
        shutil.copy(file, tmp_path)
    command = [judge, "test", "rules", "budget-alerts.test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = {case["alertname"] for test in yaml.safe_load((HERE / "budget-alerts.test.yaml").read_text())["tests"]
              for case in test["alert_rule_test"] if case["exp_alerts"]}  # fmt: skip
    assert tested == {rule["alert"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}


def exposed() -> set[str]:
    """The names under which Prometheus stores what operator and pods tell."""
    return {name for kinds in (PodSeries, OperatorSeries) for series in kinds for name in series.stored}


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
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
    rule = rendered.one("PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
    assert rule["metadata"]["labels"]["release"] == "p"
    dashboards = rendered.one("ConfigMap")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboards["data"]["budgets.json"]) == json.loads(DASHBOARD.read_text())


def test_the_panels_of_a_dashboard_do_not_overlap():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
