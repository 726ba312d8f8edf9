"""What goes wrong in mid-load: nothing is overspent, and nothing that was billed is forgotten."""

from __future__ import annotations

import pytest
from tests.bench.budgets import faults
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.stage import Stage
from tests.bench.budgets.table import over_percent
from tests.services.programs import program
from tests.services.redis_server import Persistence

from agentservice_api.budget import ZERO
from devcluster.packages import Need


def holds(finding: faults.Finding) -> None:
    assert over_percent(finding.billed, finding.limit) == 0, finding
    assert finding.forgotten == ZERO, finding


@pytest.mark.parametrize("kind", [LedgerKind.SQLITE, LedgerKind.REDIS])
def test_a_process_that_is_killed_in_mid_request_owes_what_was_billed(stage: Stage, kind: LedgerKind):
    holds(faults.killed(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", [LedgerKind.SQLITE, LedgerKind.REDIS])
def test_a_container_that_starts_again_in_its_pod_spends_nothing_twice(stage: Stage, kind: LedgerKind):
    holds(faults.restarted(stage, kind, faults.SHORT))


@pytest.mark.parametrize("kind", [LedgerKind.SQLITE, LedgerKind.REDIS])
def test_no_day_is_overspent_while_one_ends_and_the_next_begins(stage: Stage, kind: LedgerKind):
    holds(faults.over_days(stage, kind, faults.SHORT))


def test_a_process_whose_clock_is_a_day_off_spends_from_the_same_day(stage: Stage):
    program(Need.FAKETIME)
    holds(faults.wrong_clock(stage, LedgerKind.REDIS, faults.SHORT))


def test_a_redis_that_keeps_a_log_forgets_nothing_when_it_is_killed(stage: Stage):
    holds(faults.redis_with(Persistence.AOF)(stage, LedgerKind.REDIS, faults.SHORT))


def test_a_redis_alone_that_comes_back_empty_is_what_the_others_are_compared_with(stage: Stage):
    finding = faults.redis_with(Persistence.NOTHING)(stage, LedgerKind.REDIS, faults.SHORT)
    assert finding.forgotten != ZERO, "without an AgentLedger nobody remembers: the documentation says so"
