"""Real worker processes and a real model server, as in the bench, but few and short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.bench.budgets.stage import Stage
from tests.services.programs import at_hand

from devcluster.packages import Need


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    at_hand(Need.REDIS)
    with Stage() as stage:
        yield stage
