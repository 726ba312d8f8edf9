"""What a Redis says of its chunks, beside what the AgentLedger lists of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentservice_api.budget import ZERO, Amount, LedgerSpec, LedgerStatus, WindowLimit
from agentservice_api.budget.books import Posting, post
from agentservice_api.budget.ledger import WindowState, instant
from agentservice_runtime.ledger.chunk_writes import Chunk, Ended, Part, carry_out
from agentservice_runtime.ledger.redis_ground import milliseconds

SPEC = LedgerSpec(windows=(WindowLimit(name="daily", tokens=1000),))
DAY = WindowState(name="daily", start="2026-03-02T00:00:00Z", end="2026-03-03T00:00:00Z")
REDIS = "redis-1/a"
TAKEN = post(LedgerStatus(seeded=True, windows=(DAY,)), SPEC, REDIS, [Posting(key=DAY.key, want=Amount(300, 0))])[0]
"""With a chunk of 300."""


def tokens(count: int) -> Amount:
    return Amount(count, 0)


def told(settled: int, *, seq: int = 1, presumed: int = 0, returned: int = 0) -> Part:
    chunk = Chunk(
        name="daily",
        start=milliseconds(instant(DAY.start)),
        settled=tokens(settled),
        presumed=tokens(presumed),
        reserved=ZERO,
        seq=seq,
        whole=tokens(300 - returned),
    )
    return Part(chunk=chunk, returned=tokens(returned), models=())


def after(status: LedgerStatus, part: Part) -> LedgerStatus:
    return carry_out(status, SPEC, REDIS, [part])


def figures(status: LedgerStatus) -> tuple[int, int, int]:
    """Settled, presumed and held."""
    (window,) = status.windows
    return window.settled_tokens, window.presumed_tokens, status.holders[0].tokens


def test_what_is_new_of_cumulative_figures_is_written_once() -> None:
    first = after(TAKEN, told(100, presumed=20))
    assert figures(first) == (100, 20, 180)
    assert after(first, told(100, presumed=20, seq=2)) == first
    assert figures(after(first, told(150, presumed=20, seq=2))) == (150, 20, 130)


def test_what_is_returned_goes_back_only_when_nobody_has_written_since() -> None:
    assert figures(after(TAKEN, told(100, returned=50))) == (100, 0, 150)
    first = after(TAKEN, told(100))
    assert figures(after(first, told(120, returned=50, seq=1))) == (120, 0, 180)


def test_a_report_that_another_pods_has_overtaken_changes_nothing_and_ends_nothing() -> None:
    overtaken = told(100)
    later = after(TAKEN, told(150))
    assert after(later, overtaken) == later


@pytest.mark.parametrize("part", [told(100, seq=3), told(50, seq=2)], ids=["its write is unknown", "it knows of less"])
def test_a_redis_that_the_ledger_does_not_go_on_from_has_ended(part: Part) -> None:
    with pytest.raises(Ended):
        after(after(TAKEN, told(100)), part)


def test_a_window_that_is_in_the_books_is_passed_over() -> None:
    closed = replace(told(100), chunk=replace(told(100).chunk, start=0))
    assert after(TAKEN, closed) == TAKEN
