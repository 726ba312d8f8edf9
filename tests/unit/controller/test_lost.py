"""What is remembered of ledgers that vanish."""

from __future__ import annotations

from agentservice_operator.lost import LostLedgers
from agentservice_operator.manifest import Key

from .test_ledger import accounts, stored

KEY = Key("team-a", "support")
SEEDED = stored(status=accounts(spent=10))
BARE = stored()


def test_a_deleted_ledger_is_remembered_until_there_is_a_seeded_one() -> None:
    lost = LostLedgers()
    lost.saw(KEY, SEEDED, None, told=True)
    lost.saw(KEY, None, BARE, told=False)
    remains = lost.get(KEY)
    assert remains is not None
    assert (remains.ledger, remains.is_last) == (SEEDED, True)
    lost.saw(KEY, BARE, SEEDED, told=False)
    assert lost.get(KEY) is None


def test_what_vanished_while_nobody_watched_may_have_been_written_since() -> None:
    lost = LostLedgers()
    lost.saw(KEY, SEEDED, None, told=False)
    remains = lost.get(KEY)
    assert remains is not None
    assert not remains.is_last


def test_a_ledger_that_was_emptied_is_remembered_as_it_was() -> None:
    lost = LostLedgers()
    lost.saw(KEY, SEEDED, BARE, told=False)
    remains = lost.get(KEY)
    assert remains is not None
    assert remains.is_last


def test_one_that_was_never_seeded_is_not_worth_remembering() -> None:
    lost = LostLedgers()
    lost.saw(KEY, BARE, None, told=True)
    assert lost.get(KEY) is None


def test_an_empty_one_that_is_deleted_too_does_not_hide_the_accounts() -> None:
    lost = LostLedgers()
    lost.saw(KEY, SEEDED, None, told=True)
    lost.saw(KEY, BARE, None, told=True)
    assert lost.get(KEY) is not None


def test_the_memory_is_bounded() -> None:
    lost = LostLedgers()
    for number in range(2000):
        lost.saw(Key("team-a", str(number)), SEEDED, None, told=True)
    assert lost.get(Key("team-a", "0")) is None
    assert lost.get(Key("team-a", "1999")) is not None
