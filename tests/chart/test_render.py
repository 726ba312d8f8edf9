"""What the chart installs, for the value sets that people use."""

import json
import logging
import tomllib
from pathlib import Path

import pytest
import yaml

from agentservice_operator.shell import settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "agentservice-operator"

EVERYTHING = {
    "nameOverride": "agents",
    "fullnameOverride": "platform-agents",
    "image": {"repository": "registry.example/op", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "runtime": {"image": "registry.example/runtime:7", "imagePullPolicy": "Always"},
    "agentDefaults": {
        "runtime": {"podAnnotations": {"note": 'a "b", {{ c }} and 100000000'}, "concurrencyPerPod": 1024}
    },
    "replicas": 3,
    "workers": 4,
    "resyncSeconds": 60,
    "log": {"level": "debug", "format": "text"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    "serviceAccount": {"name": "robot", "annotations": {"example.com/role": "x"}},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "metrics": {
        "service": {"annotations": {"a": "b"}},
        "agentPodMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "serviceMonitor": {"enabled": True, "interval": "1m"},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True, "labels": {"dashboards": "1"}},
    },
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}]},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "system-cluster-critical",
}


def test_the_default_values_install_what_an_operator_needs_and_no_more(chart):
    assert [kind for kind in chart.render().kinds if kind != "CustomResourceDefinition"] == [
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ]


def test_everything_switched_on_renders(chart):
    kinds = chart.render(EVERYTHING).kinds
    assert {"PodMonitor", "ServiceMonitor", "NetworkPolicy"} <= set(kinds)


def test_every_crd_of_the_repository_is_installed_and_kept(chart):
    installed = {crd["metadata"]["name"]: crd for crd in chart.render().all("CustomResourceDefinition")}
    ours = {crd["metadata"]["name"]: crd for crd in map(yaml.safe_load, _files(REPOSITORY / "crds"))}
    assert installed.keys() == ours.keys() != set()
    for name, crd in installed.items():
        assert crd["spec"] == ours[name]["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_crds_go_with_the_release_when_they_are_not_to_be_kept(chart):
    for crd in chart.render({"crds": {"keep": False}}).all("CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})


def test_the_crds_can_be_left_to_someone_else(chart):
    assert chart.render({"crds": {"enabled": False}}).all("CustomResourceDefinition") == []


def test_the_copies_of_the_crds_in_the_chart_are_those_of_the_repository():
    assert _files(CHART / "files" / "crds") == _files(REPOSITORY / "crds")


def test_the_operator_understands_every_variable_that_the_chart_sets(chart):
    container = chart.render(EVERYTHING | {"watchNamespaces": ["b", "a"]}).container
    env = {entry["name"]: entry.get("value", "from-the-pod") for entry in container["env"]}
    read = settings.from_environment(env)
    assert read.watch_namespaces == ("a", "b")
    assert read.runtime_image == "registry.example/runtime:7"
    assert read.runtime_image_pull_policy is settings.PullPolicy.ALWAYS
    assert read.agent_defaults == EVERYTHING["agentDefaults"]
    assert (read.workers, read.resync_seconds) == (4, 60)
    assert (read.log_level, read.log_format) == (logging.DEBUG, settings.LogFormat.TEXT)
    assert read.lease_name == "platform-agents"
    assert read.http_port == container["ports"][0]["containerPort"]


def test_the_default_values_are_the_operators_own_defaults(chart):
    read = settings.from_environment(chart.render().env)
    bare = settings.from_environment({"RUNTIME_IMAGE": read.runtime_image, "LEASE_NAME": read.lease_name})
    assert read == bare


def test_the_images_have_the_charts_version_unless_told_otherwise(chart):
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    rendered = chart.render()
    assert rendered.container["image"] == f"localhost/agentservice-operator:{version}"
    assert rendered.env["RUNTIME_IMAGE"] == f"localhost/agentservice-runtime:{version}"


def test_a_digest_wins_over_a_tag(chart):
    image = {"repository": "r", "tag": "t", "digest": "sha256:" + "a" * 64}
    assert chart.render({"image": image}).container["image"] == "r@sha256:" + "a" * 64


def test_the_pod_passes_pod_security_restricted(chart):
    rendered = chart.render()
    pod = rendered.one("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert rendered.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["name"]: set(volume) - {"name"} for volume in pod["volumes"]} == {"tmp": {"emptyDir"}}


def test_probes_ask_the_port_that_the_operator_serves(chart):
    container = chart.render().container
    assert {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }


def test_memory_is_bounded_and_cpu_is_not(chart):
    assert chart.render().container["resources"] == {
        "requests": {"cpu": "50m", "memory": "96Mi"},
        "limits": {"memory": "256Mi"},
    }


def test_a_single_replica_has_no_disruption_budget_that_would_block_a_drain(chart):
    assert "PodDisruptionBudget" not in chart.render({"replicas": 1}).kinds


@pytest.mark.parametrize("kind", ["Deployment", "PodDisruptionBudget", "Service"])
def test_selectors_match_the_pods(chart, kind):
    rendered = chart.render(EVERYTHING)
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    selector = rendered.one(kind)["spec"]["selector"]
    selector = selector.get("matchLabels", selector)
    assert selector.items() <= labels.items()


def test_user_labels_never_replace_the_selectors(chart):
    mine = {"podLabels": {"app.kubernetes.io/name": "mine"}}
    pods = chart.render(mine).one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert pods["app.kubernetes.io/name"] == "agentservice-operator"


def test_the_notes_begin_with_three_commands_for_the_namespace_that_is_served(chart):
    notes = chart.notes({"watchNamespaces": ["team-a"], "crds": {"enabled": False}})
    assert "kubectl apply -n team-a" in notes
    assert "kubectl get agentservices -n team-a hello" in notes
    assert "curl -s localhost:8000/v1/run" in notes
    assert "apply the repository's crds/" in notes


def test_the_notes_apply_the_smallest_agent_of_the_examples(chart):
    notes = chart.notes()
    shown = yaml.safe_load(notes.partition("<<'YAML'\n")[2].partition("YAML")[0])
    assert shown == yaml.safe_load((REPOSITORY / "examples" / "hello.yaml").read_text())


def test_one_version_everywhere():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    packages = {
        folder: tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in ("api", "operator", "runtime", "cli")
    }
    assert set(packages.values()) == {chart["version"]} == {chart["appVersion"]}


def test_every_value_is_in_the_schema_and_every_schema_entry_in_the_values():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert _paths(values) == _schema_paths(schema) - {"global"}


def _paths(values, prefix=""):
    open_ended = {"agentDefaults", "resources"}
    found = set()
    for key, value in values.items():
        path = f"{prefix}{key}"
        found |= {path} if not isinstance(value, dict) or not value or path in open_ended else _paths(value, path + ".")
    return found


def _schema_paths(schema, prefix=""):
    found = set()
    for key, value in schema["properties"].items():
        path = f"{prefix}{key}"
        found |= {path} if "properties" not in value or path == "resources" else _schema_paths(value, path + ".")
    return found


def _files(folder):
    return [path.read_text() for path in sorted(folder.glob("*.yaml"))]
