"""Real worker processes and a real model server, as in the bench, but few and short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.bench.budgets.stage import Stage
from tests.services.programs import program

from devcluster.errors import ClusterError
from devcluster.packages import Need
from devcluster.settings import read_settings


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    try:
        program(Need.REDIS)
    except ClusterError as error:
        if read_settings().ci:
            pytest.fail(str(error))
        pytest.skip(str(error))
    with Stage() as stage:
        yield stage
