"""The cluster of tests/cluster, with a KEDA in it that serves."""

from __future__ import annotations

import pytest
from tests.cluster.conftest import cluster, manifest
from tests.cluster.pods.conftest import caller, images, kube, operator_namespace, team

from devcluster import install
from devcluster.cluster import Cluster
from devcluster.settings import read_settings

__all__ = ["caller", "cluster", "images", "kube", "manifest", "operator_namespace", "team"]


@pytest.fixture(scope="session", autouse=True)
def keda(cluster: Cluster) -> None:
    """See that KEDA is there. A test fails in CI without it, and is skipped elsewhere."""
    if install.Client(cluster=cluster).kubectl("get", "crd", "scaledobjects.keda.sh", "--ignore-not-found"):
        return
    missing = "this cluster has no KEDA: `make test-keda`, or `devcluster/dc install-keda` as root"
    if read_settings().ci:
        pytest.fail(missing)
    pytest.skip(missing)
