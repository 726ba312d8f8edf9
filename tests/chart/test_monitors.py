"""Who scrapes what: the PodMonitors select the pods that there are, and fit the Prometheus operator's own definition."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

HERE = Path(__file__).parent
RENDERED = HERE.parent / "unit" / "controller" / "rendered"
ON = {"enabled": True, "labels": {"release": "prometheus"}}
BOTH = {"metrics": {"agentPodMonitor": ON, "podMonitor": ON}}


def agents(rendered) -> dict:
    (found,) = (each for each in rendered.all("PodMonitor") if each["metadata"]["name"].endswith("-agents"))
    return found


def operators(rendered) -> dict:
    (found,) = (each for each in rendered.all("PodMonitor") if not each["metadata"]["name"].endswith("-agents"))
    return found


def deployments() -> list[dict]:
    """As the operator makes them of agents."""
    children = [child for path in RENDERED.glob("*.json") for child in json.loads(path.read_text())]
    return [child for child in children if child["kind"] == "Deployment"]


def selects(monitor: dict, pod: dict) -> bool:
    return monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_none_is_made_unless_it_is_asked_for(chart):
    assert "PodMonitor" not in chart.render().kinds


def test_one_selects_the_pods_of_every_agent_workers_too_at_the_port_that_they_serve_metrics_at(chart):
    rendered = chart.render(BOTH)
    monitor = agents(rendered)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "http", "path": "/metrics", "interval": "30s"}
    pods = [made["spec"]["template"] for made in deployments()]
    assert any("agentservice.dev/workers" in pod["metadata"]["labels"] for pod in pods)
    assert any("agentservice.dev/name" in pod["metadata"]["labels"] for pod in pods)
    for pod in pods:
        assert selects(monitor, pod)
        assert not selects(operators(rendered), pod)
        (container,) = pod["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_the_other_selects_the_operator_and_keeps_the_namespaces_that_it_tells_of(chart):
    rendered = chart.render(BOTH | {"metrics": {**BOTH["metrics"], "serviceMonitor": ON}})
    pod = rendered.one("Deployment")["spec"]["template"]
    assert selects(operators(rendered), pod)
    assert not selects(agents(rendered), pod)
    for endpoint in (
        *operators(rendered)["spec"]["podMetricsEndpoints"],
        *rendered.one("ServiceMonitor")["spec"]["endpoints"],
    ):
        assert endpoint["honorLabels"] is True


@pytest.mark.parametrize(
    ("watched", "selected"), [([], {"any": True}), (["team-a", "team-b"], {"matchNames": ["team-a", "team-b"]})]
)
def test_agents_are_looked_for_in_the_namespaces_that_are_watched(chart, watched, selected):
    values = BOTH | {"watchNamespaces": watched, "rbac": {"aggregateToDefaultRoles": False}}
    assert agents(chart.render(values))["spec"]["namespaceSelector"] == selected


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor", "PrometheusRule"])
def test_each_carries_the_labels_that_a_prometheus_asks_for_and_fits_the_definition_of_its_kind(chart, kind):
    (version,) = yaml.safe_load((HERE / "definitions" / f"{kind.lower()}s.yaml").read_text())["spec"]["versions"]
    # unchecked itself: some of its regular expressions are Go's
    validator = jsonschema.Draft202012Validator(closed(version["schema"]["openAPIV3Schema"]))
    values = {"metrics": dict.fromkeys(("agentPodMonitor", "podMonitor", "serviceMonitor", "prometheusRule"), ON)}
    found = chart.render(values).all(kind)
    assert len(found) == (1 if kind == "ServiceMonitor" else 2)
    for made in found:
        assert made["metadata"]["labels"]["release"] == "prometheus"
        validator.validate(made)
        with pytest.raises(jsonschema.ValidationError, match="misspelt"):
            validator.validate({**made, "spec": {**made["spec"], "misspelt": 1}})


def closed(schema: Any) -> Any:
    """A schema that refuses what the API server would drop."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found
