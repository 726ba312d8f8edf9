"""Budgets in a cluster, while something goes wrong in mid-load: the model server's count is the truth.

Short versions of the scenes of `make bench-budgets`, on a control plane of their own because one of them stops it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.bench.budgets import faults, table
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.stage import Stage
from tests.services.programs import program

from agentservice_api.budget import ZERO
from devcluster.errors import ClusterError
from devcluster.packages import Need
from devcluster.settings import read_settings

KINDS = [LedgerKind.KUBERNETES]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        try:
            program(Need.FAKETIME)
            stage.cluster  # noqa: B018  starts it
        except ClusterError as error:
            if read_settings().ci:
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield stage


def holds(finding: faults.Finding) -> None:
    assert table.over_percent(finding.billed, finding.limit) == 0, finding
    assert finding.forgotten == ZERO, finding


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_budget_is_spent_and_nothing_beyond_it(stage: Stage, kind: LedgerKind):
    (row,) = table.measure(stage, kinds=(kind,), processes=(2,), budgets=(60,), progress=lambda _: None)
    assert row.over_percent == 0
    assert row.used_percent > 80


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_is_killed_in_mid_request_owes_what_was_billed(stage: Stage, kind: LedgerKind):
    holds(faults.killed(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_starts_again_in_its_pod_spends_nothing_twice(stage: Stage, kind: LedgerKind):
    holds(faults.restarted(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_whose_clock_is_a_day_off_spends_from_the_same_day(stage: Stage, kind: LedgerKind):
    holds(faults.wrong_clock(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", KINDS)
def test_no_day_is_overspent_while_one_ends_and_the_next_begins(stage: Stage, kind: LedgerKind):
    holds(faults.over_days(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", KINDS)
def test_a_ledger_that_somebody_deletes_is_not_spent_twice(stage: Stage, kind: LedgerKind):
    holds(faults.ledger_deleted(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_api_server_nothing_is_spent_but_what_is_in_hand(stage: Stage, kind: LedgerKind):
    holds(faults.api_server_stopped(stage, kind, faults.SHORT))
