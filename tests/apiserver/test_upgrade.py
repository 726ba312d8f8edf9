"""From the last release to this tree and back, with running agents: chart, definitions and operator change, pods only where they must.

The last release is the newest tag `v*`; AGENTSERVICE_PREVIOUS names any other commit. Without either this tree is its own
predecessor: then not a single write may be needed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.settings import REPOSITORY
from devcluster.standalone import StandaloneControlPlane

from .drills import RICH, right, written
from .fake_kubelet import kubelet
from .operator_process import Audit, OperatorProcess, Workbench, eventually
from .test_chart import SHORT, Helm, helm

__all__ = ["helm"]

CHART = "charts/agentservice-operator"
RENDERED = "tests/unit/controller/rendered"
PARTS = ("api", "operator", "crds", "examples", CHART, RENDERED)
EXAMPLES = ("hello", "support", "autoscaling", "budget")


@dataclass(frozen=True, kw_only=True)
class Version:
    """A tree of this repository that can be installed."""

    tree: Path
    name: str

    @property
    def chart(self) -> str:
        return str(self.tree / CHART)

    @property
    def environment(self) -> dict[str, str]:
        """Makes a Python process run this tree's operator."""
        return {"PYTHONPATH": os.pathsep.join(str(self.tree / part / "src") for part in ("api", "operator"))}

    def pod_templates(self) -> dict[str, Any]:
        """What pods are made from, of each agent whose rendering is kept as a golden file."""
        found: dict[str, Any] = {}
        for golden in sorted((self.tree / RENDERED).glob("*.json")):
            for child in json.loads(golden.read_text()):
                if child["kind"] == "Deployment":
                    found[golden.stem] = child["spec"]["template"]
        return found


NOW = Version(tree=REPOSITORY, name="this tree")


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, check=False)


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Version:
    newest = git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD")
    reference = os.environ.get("AGENTSERVICE_PREVIOUS") or newest.stdout.decode().strip()
    if not reference:
        return NOW
    tree = tmp_path_factory.mktemp("previous")
    archive = git("archive", reference, "--", *PARTS)
    assert archive.returncode == 0, archive.stderr.decode()
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    return Version(tree=tree, name=reference)


@pytest.fixture
def definitions(control_plane: StandaloneControlPlane) -> Iterator[None]:
    """Those of this tree are there again for whoever comes next."""
    yield
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={REPOSITORY / 'crds'}")


@pytest.fixture
def start(
    control_plane: StandaloneControlPlane, make_operator: Callable[..., OperatorProcess], at: Workbench
) -> Callable[[Version], OperatorProcess]:
    """Start a version's operator with the rights that its chart gives."""

    def start(version: Version) -> OperatorProcess:
        release = f"{at.namespace}-operator"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{release}", "system:authenticated"]
        kubeconfig = control_plane.user(f"system:serviceaccount:{release}:operator", groups=groups)
        environment = {"POD_NAMESPACE": release, "LEASE_NAME": f"{release}-agentservice-operator"}
        environment |= {"WATCH_NAMESPACES": at.namespace, **version.environment}
        return make_operator(kubeconfig=kubeconfig, **environment).start()

    return start


def pods(at: Workbench) -> set[str]:
    return {pod["metadata"]["uid"] for pod in at.list("Pod") if not pod["metadata"].get("deletionTimestamp")}


def test_an_upgrade_and_a_downgrade_restart_no_pod_whose_template_has_not_changed(
    previous: Version,
    definitions: None,
    start: Callable[[Version], OperatorProcess],
    helm: Helm,
    control_plane: StandaloneControlPlane,
    at: Workbench,
    audit: Audit,
):
    release = f"{at.namespace}-operator"
    control_plane.kubectl("create", "namespace", release)
    where = ("--namespace", release, "--wait=hookOnly")
    watched = ("--set", f"{SHORT},watchNamespaces={{{at.namespace}}}")
    helm("install", release, previous.chart, *where, "--take-ownership", "--force-conflicts", *watched)
    names = ["smallest", "rich"]
    with kubelet(at):
        operator = start(previous)
        at.agent("smallest")
        at.agent("rich", **RICH)
        for example in EXAMPLES:
            documents = yaml.safe_load_all((previous.tree / "examples" / f"{example}.yaml").read_text())
            document = next(document for document in documents if document["kind"] == "AgentService")
            at.create("AgentService", document)
            names.append(document["metadata"]["name"])
        for name in names:
            at.settles("Ready", "True", name=name, seconds=120)
        at.quiet(audit)
        before, specifications = pods(at), {name: at.get("AgentService", name)["spec"] for name in names}
        templates = {name: at.get("Deployment", name)["spec"]["template"] for name in names}
        assert operator.stop() == 0

        audit.forget()
        helm("upgrade", release, NOW.chart, *where, "--take-ownership", "--force-conflicts", *watched)
        operator = start(NOW)
        right(at, *names)
        at.quiet(audit, seconds=2)
        kept = previous.pod_templates().items() <= NOW.pod_templates().items()
        if kept:
            assert {name: at.get("Deployment", name)["spec"]["template"] for name in names} == templates
            assert pods(at) == before
        if previous is NOW:
            # An autoscaler may have told something new meanwhile, which is in the status then.
            assert [write for write in written(audit, at) if write.resource != "agentservices"] == []
        assert {name: at.get("AgentService", name)["spec"] for name in names}.items() >= specifications.items()
        assert "orbidden" not in operator.log
        assert operator.stop() == 0

        upgraded = pods(at)
        helm("rollback", release, "1", *where)
        operator = start(previous)
        at.patch("AgentService", "smallest", {"spec": {"replicas": 2}})
        eventually("the old operator works", lambda: at.get("Deployment", "smallest")["spec"]["replicas"] == 2)
        for name in names:
            at.settles("Ready", "True", name=name, seconds=120)
        at.quiet(audit)
        if kept:
            assert pods(at) >= upgraded
        assert operator.stop() == 0
    helm("uninstall", release, "--namespace", release)
    control_plane.kubectl("delete", "namespace", release, "--wait=false")
    print(f"from {previous.name} and back; pod templates {'kept' if kept else 'changed'}; {len(before)} pods")
