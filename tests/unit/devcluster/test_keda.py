"""KEDA as the dev cluster installs it: its own manifests, with programs that need no image."""

import json
from pathlib import Path
from typing import Any

import pytest

from devcluster import keda
from devcluster.errors import ClusterError


def test_the_version_is_the_one_that_go_mod_names():
    assert keda.version((keda.SOURCES / "go.mod").read_text()).startswith("v2.")
    with pytest.raises(ClusterError, match="does not require"):
        keda.version("module x\n")


def test_its_own_manifests_are_kept_and_each_pod_runs_a_program_of_this_machine(tmp_path: Path):
    (tmp_path / "config" / "default").mkdir(parents=True)
    theirs = tmp_path / "config" / "default" / "kustomization.yaml"
    theirs.write_text("resources: []\n")
    theirs.chmod(0o444)  # as the module cache has them
    for _ in range(2):
        keda.write_kustomization(tmp_path / "place", manifests=tmp_path / "config", programs=Path("/built"))
    assert (tmp_path / "place" / "config" / "default" / "kustomization.yaml").read_text() == "resources: []\n"
    written = json.loads((tmp_path / "place" / "kustomization.yaml").read_text())
    patches: list[dict[str, Any]] = [json.loads(patch["patch"]) for patch in written["patches"]]
    pods = [patch["spec"]["template"]["spec"] for patch in patches]
    assert {pod["containers"][0]["command"][0] for pod in pods} == {
        "/programs/operator",
        "/programs/adapter",
        "/programs/webhooks",
    }
    assert {pod["volumes"][0]["hostPath"]["path"] for pod in pods} == {"/built"}
