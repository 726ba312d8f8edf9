"""One namespace for all tests of this folder, under Pod Security `restricted`, with a model server and a pod that calls."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from devcluster import install
from devcluster.cluster import Cluster
from devcluster.settings import REPOSITORY

from .agents import Images
from .kube import Kube
from .load_generator import Caller
from .waiting import wait

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@pytest.fixture(scope="package")
def kube(cluster: Cluster) -> Iterator[Kube]:
    kube = Kube(kubectl=[str(cluster.kubectl())], kubeconfig=cluster.kubeconfig)
    yield kube
    kube.close()


@pytest.fixture(scope="package")
def images(kube: Kube, operator_namespace: str) -> Images:
    live = kube.get("Deployment", operator_namespace, install.RELEASE)
    assert live is not None, f"the operator is not installed in {operator_namespace}"
    (container,) = live["spec"]["template"]["spec"]["containers"]
    runtime = next(entry["value"] for entry in container["env"] if entry["name"] == "RUNTIME_IMAGE")
    return Images(operator=container["image"], runtime=runtime)


@pytest.fixture(scope="package")
def operator_namespace(kube: Kube) -> str:
    kube.kubectl("label", "--overwrite", "namespace", install.NAMESPACE, RESTRICTED)
    return install.NAMESPACE


@pytest.fixture(scope="package")  # the node is small: what comes after this folder needs its room
def team(kube: Kube, images: Images) -> Iterator[str]:
    """The namespace, with everything in it that answers and calls."""
    name = f"team-{uuid.uuid4().hex[:6]}"
    kube.kubectl("create", "namespace", name)
    kube.kubectl("label", "namespace", name, RESTRICTED)
    caller = Caller(kube, namespace=name)
    caller.start(image=images.runtime)
    server = kube.kubectl("kustomize", str(REPOSITORY / "examples" / "model-server"))
    shipped = re.search(r"localhost/agentservice-runtime:\S+", server)
    assert shipped is not None, "examples/model-server runs from the runtime image"
    kube.kubectl("-n", name, "apply", "-f", "-", stdin=server.replace(shipped[0], images.runtime))
    kube.kubectl("-n", name, "rollout", "status", "deployment/model-server", "--timeout=120s")
    caller.wait_ready()
    yield name
    kube.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="package")
def caller(kube: Kube, team: str) -> Caller:
    return Caller(kube, namespace=team)


@pytest.fixture(scope="package")
def model_url(team: str) -> str:
    """Where agents find the stand-in for a model provider."""
    return f"http://model-server.{team}.svc/v1"


@pytest.fixture(autouse=True)
def operator_is_there(kube: Kube, operator_namespace: str) -> None:
    """A test that took the operator away is not the next one's trouble."""

    def ready() -> bool:
        live = kube.get("Deployment", operator_namespace, install.RELEASE)
        status = (live or {}).get("status", {})
        return status.get("readyReplicas", 0) >= 1

    wait(
        "the operator is there",
        ready,
        seconds=120,
        why=lambda: kube.kubectl("-n", operator_namespace, "get", "pods", "-o", "wide"),
    )
