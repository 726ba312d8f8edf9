"""Fixtures of the operator's tests: one operator per test module, a workbench per test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.services.api_proxy import ApiProxy

from devcluster.standalone import StandaloneControlPlane

from .operator_process import Audit, OperatorProcess, Workbench, operators


@pytest.fixture(scope="module")
def make_operator(
    control_plane: StandaloneControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., OperatorProcess]]:
    """Make operator processes of one installation, for a module that starts and stops its own."""
    lease = f"operator-{uuid.uuid4().hex[:8]}"
    with operators(control_plane, tmp_path_factory.mktemp("operators"), lease=lease) as make:
        yield make


@pytest.fixture(scope="module")
def operator(make_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    """The operator of a module, leading; at its end it must stop in order, having met no fault."""
    process = make_operator().start()
    yield process
    assert process.stop() == 0
    assert "please report it" not in process.log


@pytest.fixture(scope="module")
def proxy(control_plane: StandaloneControlPlane) -> Iterator[ApiProxy]:
    """The API server as an operator sees it on bad days; `proxied` leads there."""
    authority = str(control_plane.certificate_authority)
    with ApiProxy(server=control_plane.server, authority=authority, pair=control_plane.admin) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxied(proxy: ApiProxy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig that knows the API server by the proxy alone."""
    cluster = {"name": "c", "cluster": {"server": proxy.url}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {}}
    path = tmp_path_factory.mktemp("proxied") / "kubeconfig"
    path.write_text(json.dumps({"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "c"}))
    return path


@pytest.fixture
def at(control_plane: StandaloneControlPlane, namespace: str) -> Workbench:
    """A namespace of this test's own."""
    return Workbench(control_plane, namespace)


@pytest.fixture
def audit(control_plane: StandaloneControlPlane) -> Audit:
    """The writes from the beginning of the test."""
    return Audit(control_plane)
