"""Whole ledgers under any interleaving of what may befall them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test
from tests.property.ledgers.broken import BROKEN, Broken
from tests.property.ledgers.machine import LedgerMachine, SlicesMachine, SQLiteMachine

DEEP = "AGENTSERVICE_DEEP"
"""Set in the environment, many more and longer interleavings are tried, and a failing one is made short."""
SOUND = settings(
    max_examples=1000 if os.environ.get(DEEP) else 15,
    stateful_step_count=60 if os.environ.get(DEEP) else 30,
    deadline=None,
    derandomize=not os.environ.get(
        DEEP
    ),  # a run of all tests says the same twice; the deep one looks further each time
    database=None,
    phases=tuple(Phase) if os.environ.get(DEEP) else (Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
BROKEN_ONES = settings(SOUND, max_examples=400, stateful_step_count=30, phases=[Phase.generate], derandomize=True)


@pytest.mark.parametrize("machine", [SQLiteMachine, SlicesMachine], ids=lambda machine: machine.__name__)
def test_no_interleaving_overspends_loses_or_blocks(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(machine, settings=SOUND)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_ledger_that_is_broken_on_purpose_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, part in broken.parts:
        monkeypatch.setattr(owner, name, part)
    with pytest.raises((AssertionError, Flaky)):  # caught, if not always in the same way
        run_state_machine_as_test(broken.machine, settings=BROKEN_ONES)
