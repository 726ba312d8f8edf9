"""In any order of events the accounts of a ledger add up, nothing is handed out beyond a limit, and nothing spent is lost."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.services.ledger_walk import Walk, imbalance

from agentservice_api.budget import ZERO, Amount, LedgerSpec, LedgerStatus
from agentservice_api.budget.books import KEPT_DAYS
from agentservice_api.budget.ledger import instant


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 120))
def test_in_any_order_of_events_the_accounts_are_sound(chance: random.Random, steps: int) -> None:
    walk = Walk(chance)
    walk.begin()
    for _ in range(steps):
        before, spec = walk.status, walk.spec
        walk.go()
        assert imbalance(walk.status) == []
        no_window_grew_beyond_its_limit(before, walk.status, spec)
        no_window_went_back(before, walk.status)
        nothing_billed_was_lost(walk)


def no_window_grew_beyond_its_limit(before: LedgerStatus, after: LedgerStatus, spec: LedgerSpec) -> None:
    if not spec.is_hard:
        return
    for window in after.windows:
        old = before.window(window.key)
        most = spec.limit(window.name).at_least(old.authorized if old is not None else ZERO)
        assert window.authorized.fits(most), window


def no_window_went_back(before: LedgerStatus, after: LedgerStatus) -> None:
    for name in ("daily", "monthly"):
        old, new = before.current(name), after.current(name)
        assert old is not None
        assert new is not None
        assert new == old or new.key == old.key or instant(new.start) >= instant(old.end)
    for window in after.windows:
        old = before.window(window.key)
        if old is not None:
            assert old.end == window.end
            assert (old.settled + old.overrun).fits(window.settled + window.overrun)


def nothing_billed_was_lost(walk: Walk) -> None:
    books = {window.key: window.settled + window.overrun for window in walk.status.windows}
    books |= {(book.name, book.start): Amount(book.tokens, book.nano_usd) for book in walk.status.closed}
    for key, billed in walk.billed.items():
        if key in books:
            assert books[key] == billed
        else:
            assert key[0] == "daily"
            assert instant(key[1]) + KEPT_DAYS < walk.now
