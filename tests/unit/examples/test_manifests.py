"""Every example says what the types understand, and is what the README promises."""

import itertools
import re

import yaml

from agentservice_api import AgentService
from agentservice_api.crd import resource_schema
from agentservice_api.semantics import semantic_problems
from agentservice_api.strict import check_manifest


def test_an_agent_has_no_field_that_the_types_do_not_know(agent):
    assert check_manifest(agent) == []


def test_an_agent_makes_sense_to_the_code(agent):
    assert list(semantic_problems(AgentService.model_validate(agent).spec)) == []


def test_an_example_goes_where_its_user_says(manifest):
    assert "namespace" not in manifest["metadata"]


def test_a_pod_that_is_written_by_hand_passes_pod_security_restricted(manifest):
    if manifest["kind"] != "Deployment":
        return
    pod = manifest["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["limits"]) == {"memory"}


def test_a_secret_of_an_example_holds_nothing_that_looks_like_a_real_key(manifest):
    if manifest["kind"] == "Secret":
        assert all(re.search("not-a-real-key|example-password", value) for value in manifest["stringData"].values())


def test_the_images_are_those_that_this_version_builds(examples):
    chart = yaml.safe_load((examples.parent / "charts" / "agentservice-operator" / "Chart.yaml").read_text())
    named = {
        image for path in examples.rglob("*.yaml") for image in re.findall(r"image: (localhost/\S+)", path.read_text())
    }
    # of the stack without a cluster: what a variable of it stands for
    named |= set(
        re.findall(r"image: \$\{\w+:-(localhost/[^}]+)\}", (examples / "compose" / "compose.yaml").read_text())
    )
    folders = [*(f"example-{path.parent.name}" for path in examples.glob("*/Dockerfile")), "cli"]
    assert named == {f"localhost/agentservice-{image}:{chart['appVersion']}" for image in [*folders, "runtime"]}


def test_the_smallest_agent_is_the_one_of_the_readme(examples):
    hello = yaml.safe_load((examples / "hello.yaml").read_text())
    readme = (examples.parent / "README.md").read_text()
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)]
    assert hello in shown


def test_kustomize_knows_every_place_where_an_agent_names_a_secret_or_a_config_map(examples):
    known = yaml.safe_load((examples / "kustomize" / "base" / "references.yaml").read_text())["nameReference"]
    listed = {entry["kind"]: {spec["path"] for spec in entry["fieldSpecs"]} for entry in known}
    in_schema = {
        "Secret": {"spec/runtime/volumes/secret/secretName"},
        "ConfigMap": {"spec/runtime/volumes/configMap/name"},
    }
    for path in _paths(resource_schema()["properties"]["spec"], "spec"):
        for kind, names in (
            ("Secret", ("secretKeyRef", "secretRef")),
            ("ConfigMap", ("configMapKeyRef", "configMapRef")),
        ):
            if path.endswith(names):
                in_schema[kind].add(f"{path}/name")
    assert listed == in_schema


def _paths(schema, path):
    below = schema.get("properties", {}) | ({"": schema["items"]} if "items" in schema else {})
    inner = [_paths(member, f"{path}/{name}".rstrip("/")) for name, member in below.items()]
    return {path, *itertools.chain.from_iterable(inner)}
