"""A real API server for the tests of this folder: the dev cluster's control plane alone, one per xdist worker.

A test that needs it fails in CI when it cannot be had, and is skipped elsewhere.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import components
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, read_settings
from devcluster.standalone import StandaloneControlPlane, delete_namespace, new_namespace

from .operator_fixtures import at, audit, make_operator, operator, proxied, proxy

__all__ = ["at", "audit", "make_operator", "operator", "proxied", "proxy"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.apiserver)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[StandaloneControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager with crds/ applied.

    See StandaloneControlPlane for `kubeconfig`, `server`, `certificate_authority`, `admin`, `api`, `kubectl()`, `user()`, `log()`.
    """
    settings = read_settings()
    try:
        built = components.cached(settings, progress=Progress())
        if built is None:
            raise ClusterError("the API server is not built: run `devcluster/dc build` once")
    except ClusterError as error:
        if settings.ci:
            pytest.fail(str(error))
        pytest.skip(str(error))
    definitions = sorted((REPOSITORY / "crds").glob("*.yaml"))
    with StandaloneControlPlane(binary=built.binary, definitions=definitions) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: StandaloneControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test's own, removed (without waiting) afterwards."""
    name = new_namespace(control_plane.api, f"test-{uuid.uuid5(uuid.NAMESPACE_OID, request.node.nodeid).hex[:6]}")
    yield name
    delete_namespace(control_plane.api, name)
