"""Values that make no sense are refused before anything is installed, by a message that names them."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"watchNamespace": ["a"]}, "watchNamespace"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"crds": {"install": True}}, "install"),
        ({"crds": {"keep": "yes"}}, "/crds/keep"),
        ({"replicas": "2"}, "/replicas"),
        ({"replicas": -1}, "/replicas"),
        ({"workers": 0}, "/workers"),
        ({"resyncSeconds": 1}, "/resyncSeconds"),
        ({"readSecrets": {"intervalSeconds": 0}}, "/readSecrets/intervalSeconds"),
        ({"log": {"level": "verbose"}}, "/log/level"),
        ({"runtime": {"tag": "x"}}, "tag"),
        ({"watchNamespaces": "team-a"}, "/watchNamespaces"),
        ({"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        ({"metrics": {"podMonitor": {"enable": True}}}, "enable"),
        ({"serviceAccount": {"annotations": {"a": 1}}}, "/serviceAccount/annotations/a"),
        ({"resources": {"request": {}}}, "request"),
        ({"extraEnv": [{"nam": "x"}]}, "/extraEnv/0"),
        ({"agentDefaults": {"modle": {}}}, "modle"),
        ({"agentDefaults": {"replicas": 3}}, "replicas"),
        ({"agentDefaults": {"model": {"name": "test"}}}, "model"),
        ({"agentDefaults": {"runtime": {"nodeSelecter": {}}}}, "nodeSelecter"),
        ({"agentDefaults": {"auth": {"type": "Basic"}}}, "/agentDefaults/auth/type"),
    ],
)
def test_a_mistaken_value_is_refused_and_named(chart, values, named):
    assert named in chart.refusal(values)


def test_the_schema_of_agent_defaults_is_that_of_the_types():
    done = subprocess.run([sys.executable, REPOSITORY / "charts" / "agent_defaults_schema.py", "--check"], check=False)
    assert done.returncode == 0


def test_a_service_monitor_without_its_service_is_refused(chart):
    values = {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}}
    assert "metrics.service.enabled" in chart.refusal(values)


def test_no_service_account_needs_the_name_of_one(chart):
    assert "serviceAccount.name" in chart.refusal({"serviceAccount": {"create": False}})
