"""Budgets of one machine and of Redis alone, under more clients than fit; the model server's count is the truth."""

from __future__ import annotations

import pytest
from tests.bench.budgets import table
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.stage import Stage


def row(stage: Stage, kind: LedgerKind, *, requests: int = 60) -> table.Row:
    (row,) = table.measure(stage, kinds=(kind,), processes=(2,), budgets=(requests,), progress=lambda _: None)
    return row


@pytest.mark.parametrize("kind", [LedgerKind.SQLITE, LedgerKind.REDIS])
def test_all_of_a_budget_is_spent_and_nothing_beyond_it(stage: Stage, kind: LedgerKind):
    spent = row(stage, kind)
    assert spent.over_percent == 0
    assert spent.used_percent > 90
    assert spent.refused == 128


def test_the_same_load_overspends_when_spend_is_added_afterwards(stage: Stage):
    assert row(stage, LedgerKind.CHECK_THEN_ADD).over_percent > 50
