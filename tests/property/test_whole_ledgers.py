"""Whole ledgers under any interleaving of what may befall them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test
from tests.property.ledgers.broken import BROKEN, Broken
from tests.property.ledgers.machine import LedgerMachine, SlicesMachine, SQLiteMachine
from tests.property.ledgers.stories import OF_OUR_OWN, Story, tell

DEEP = bool(os.environ.get("AGENTSERVICE_DEEP"))
"""Many more and longer interleavings are tried, other ones each time, and a failing one is made short."""
AT_ALL = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
THOROUGHLY = settings(AT_ALL, max_examples=1000, stateful_step_count=60, derandomize=False, phases=tuple(Phase))
UNTIL_CAUGHT = settings(AT_ALL, max_examples=2000, derandomize=False)


@pytest.mark.parametrize("machine", [SQLiteMachine, SlicesMachine], ids=lambda machine: machine.__name__)
def test_no_interleaving_overspends_loses_or_blocks(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(machine, settings=THOROUGHLY if DEEP else AT_ALL)


@pytest.mark.parametrize("story", OF_OUR_OWN.values(), ids=OF_OUR_OWN)
def test_what_once_went_wrong_is_right(story: Story) -> None:
    tell(story, SlicesMachine)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_ledger_that_is_broken_on_purpose_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = SQLiteMachine if issubclass(broken.machine, SQLiteMachine) else SlicesMachine
    tell(broken.story, sound)
    for owner, name, part in broken.parts:
        monkeypatch.setattr(owner, name, part)
    with pytest.raises(AssertionError):
        tell(broken.story, broken.machine)


@pytest.mark.skipif(not DEEP, reason="chance finds each of them in seconds to minutes")
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_chance_finds_what_is_broken(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, part in broken.parts:
        monkeypatch.setattr(owner, name, part)
    with pytest.raises((AssertionError, Flaky)):  # caught, if not always in the same way
        run_state_machine_as_test(broken.machine, settings=UNTIL_CAUGHT)
