"""A cluster with real pods for the tests of this folder: the one that is up, with this tree's images and chart in it.

A test that needs it fails in CI when it cannot be had, and is skipped elsewhere.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcluster import cluster as clusters
from devcluster import images, install
from devcluster.cluster import Cluster
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import read_settings

from .pods.kube import Kube
from .shipped import EXAMPLES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster (AGENTSERVICE_CLUSTER_NAME names another one), the operator of this tree installed and available in it."""
    settings, progress = read_settings(), Progress()
    try:
        found = clusters.choose(settings, name=settings.name, progress=progress)
        if not settings.ci and not found.kubeconfig.exists():
            raise ClusterError("no cluster is up: run `devcluster/dc up --images` as root")
        built = images.built(settings, progress=progress)
        found.up(images=install.archives(built))
        install.deliver(settings, found, built, progress=progress)
        install.operator(found, built, wait=True)
    except ClusterError as error:
        if settings.ci:
            pytest.fail(str(error))
        pytest.skip(str(error))
    return found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own, removed (without waiting) afterwards."""
    client = install.Client(cluster=cluster)
    name = f"test-{uuid.uuid4().hex[:8]}"
    client.kubectl("create", "namespace", name)
    yield name
    client.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Callable[..., str]:
    """`kubectl(*arguments, stdin=None) -> str`: its output; ClusterError with its error output when it fails."""
    return install.Client(cluster=cluster).kubectl


@pytest.fixture(scope="module")
def kube(cluster: Cluster) -> Iterator[Kube]:
    kube = Kube(kubectl=[str(cluster.kubectl())], kubeconfig=cluster.kubeconfig)
    yield kube
    kube.close()


@pytest.fixture(scope="module")
def manifest(cluster: Cluster, kube: Kube) -> Callable[[str], str]:
    """The text of an example's file or overlay, with the images under the names that this cluster knows."""
    renamed: dict[str, str] = {}
    if cluster.image_name("localhost/any:tag") != "localhost/any:tag":  # a cluster that pulls from a registry
        built = images.built(read_settings(), progress=Progress())
        renamed = {alias: cluster.image_name(image.name) for image in built.all for alias in image.aliases}

    def read(path: str) -> str:
        place = EXAMPLES / path
        text = kube.kubectl("kustomize", str(place)) if place.is_dir() else place.read_text()
        for shipped, pulled in renamed.items():
            text = text.replace(shipped, pulled)
        return text

    return read
