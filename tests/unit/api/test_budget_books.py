"""Whatever happens to a ledger, its accounts add up, nothing is handed out beyond a limit, and nothing spent is lost."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.services.ledger_walk import limits

from agentservice_api.budget import ZERO, Amount, Enforcement, LedgerSpec, LedgerStatus, ModelSpend, WindowState
from agentservice_api.budget.books import (
    KEPT_DAYS,
    BooksFull,
    Posting,
    close,
    forgive_presumed,
    post,
    presume_all,
    presume_gone,
    roll,
)
from agentservice_api.budget.ledger import (
    MAX_CLOSED,
    MAX_HOLDERS,
    MAX_MODELS,
    MAX_WINDOWS,
    OTHER_MODELS,
    Holder,
    instant,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HARD = limits(Enforcement.HARD, tokens=1000, nano_usd=None)


def begun(spec: LedgerSpec = HARD, *, now: datetime = NOON) -> LedgerStatus:
    return roll(LedgerStatus(seeded=True), spec, now=now)


def day(status: LedgerStatus) -> WindowState:
    found = status.current("daily")
    assert found is not None
    return found


def spend(tokens: int, name: str = "m", price: str = "p") -> tuple[ModelSpend, ...]:
    return (ModelSpend(name=name, price=price, tokens=tokens),)


def posted(status: LedgerStatus, holder: str = "a/1", *, spec: LedgerSpec = HARD, **posting: object) -> LedgerStatus:
    made = Posting(key=day(status).key, **posting)  # type: ignore[arg-type]
    return post(status, spec, holder, [made])[0]


def granted(status: LedgerStatus, tokens: int, holder: str = "a/1", *, spec: LedgerSpec = HARD) -> LedgerStatus:
    return posted(status, holder, spec=spec, need=Amount(tokens, 0), want=Amount(tokens, 0))


def test_a_grant_is_as_much_as_is_wanted_or_what_is_left_but_at_least_what_is_needed() -> None:
    status, found = post(begun(), HARD, "a/1", [Posting(key=day(begun()).key, need=Amount(1, 0), want=Amount(900, 0))])
    assert list(found.values()) == [Amount(900, 0)]
    status, found = post(status, HARD, "b/1", [Posting(key=day(status).key, need=Amount(50, 0), want=Amount(200, 0))])
    assert list(found.values()) == [Amount(100, 0)]
    status, found = post(status, HARD, "c/1", [Posting(key=day(status).key, need=Amount(30, 0), want=Amount(30, 0))])
    assert list(found.values()) == [ZERO]
    assert day(status).wanted == Amount(30, 0)


def test_what_is_returned_serves_those_that_wait() -> None:
    status = granted(granted(begun(), 1000), 30, "b/1")
    assert day(status).wanted_tokens == 30
    status = posted(status, returned=Amount(40, 0))
    assert (day(status).wanted_tokens, day(status).authorized_tokens) == (0, 960)
    assert day(granted(status, 30, "b/1")).authorized_tokens == 990


def test_what_is_billed_beyond_the_hand_is_taken_from_the_pool_and_the_rest_is_overrun() -> None:
    status = posted(granted(begun(), 100), spent=spend(150))
    assert (day(status).settled_tokens, day(status).authorized_tokens, day(status).overrun_tokens) == (150, 150, 0)
    status = posted(status, spent=spend(1000))
    assert (day(status).settled_tokens, day(status).authorized_tokens, day(status).overrun_tokens) == (1000, 1000, 150)
    assert posted(status, spent=spend(1)).holders[0].granted_tokens == 1000


def test_what_was_lost_and_is_found_again_pays_before_the_pool_does() -> None:
    lost = posted(granted(begun(), 1000), lost=Amount(100, 0))
    lost = posted(lost, spent=spend(900))
    assert (day(lost).presumed_tokens, lost.holders[0].tokens) == (100, 0)
    found = posted(lost, spent=spend(30), lost=Amount(-100, 0))
    assert (day(found).presumed_tokens, day(found).settled_tokens, day(found).overrun_tokens) == (0, 930, 0)
    assert found.holders[0].tokens == 70


def test_no_more_is_found_than_this_holder_lost() -> None:
    status = posted(granted(begun(), 100), lost=Amount(40, 0))
    status = presume_gone(granted(status, 60, "dead/1"), lambda holder: holder == "dead/1")
    assert day(status).presumed_tokens == 100
    status = posted(status, lost=Amount(-1000, 0))
    assert (day(status).presumed_tokens, status.holders[0].tokens) == (60, 100)


def test_what_was_forgiven_is_not_found_again() -> None:
    status = posted(granted(begun(), 100), lost=Amount(40, 0))
    status = presume_gone(granted(status, 60, "dead/1"), lambda holder: holder == "dead/1")
    status = forgive_presumed(status, day(status).key)
    assert (day(status).presumed_tokens, day(status).authorized_tokens) == (0, 60)
    assert (status.holders[0].presumed, status.holders[0].forgiven) == (Amount(40, 0), Amount(40, 0))
    status = presume_gone(granted(status, 30, "dead/2"), lambda holder: holder == "dead/2")
    status = posted(status, lost=Amount(20, 0))
    # 20 lost since then are its own; of the 40 before, somebody else may have been given
    status = posted(status, spent=spend(55), lost=Amount(-60, 0))
    assert (day(status).presumed_tokens, day(status).settled_tokens, status.holders[0].tokens) == (30, 55, 5)
    assert (status.holders[0].presumed, status.holders[0].forgiven) == (ZERO, ZERO)


def test_what_a_dead_holder_held_counts_as_spent_and_it_is_struck_off() -> None:
    status = presume_gone(posted(granted(begun(), 100), spent=spend(30)), lambda holder: holder == "a/1")
    assert (status.holders, day(status).presumed_tokens, day(status).spent.tokens) == ((), 70, 100)
    assert presume_gone(status, lambda _: True) is status


def test_a_holder_that_was_struck_off_can_still_settle() -> None:
    status = presume_gone(granted(begun(), 1000), lambda _: True)
    status = posted(status, spent=spend(30))
    assert (day(status).presumed_tokens, day(status).overrun_tokens) == (1000, 30)


def test_a_limit_that_fell_below_what_is_authorized_grants_nothing_and_takes_back() -> None:
    low = limits(Enforcement.HARD, tokens=100, nano_usd=None)
    status = granted(begun(), 800)
    assert day(granted(status, 10, spec=low)).authorized_tokens == 800
    status = posted(status, spec=low, returned=Amount(750, 0))
    assert day(granted(status, 50, spec=low)).authorized_tokens == 100


@pytest.mark.parametrize("enforcement", [Enforcement.SOFT, Enforcement.OBSERVE])
def test_a_limit_that_does_not_refuse_is_counted_past(enforcement: Enforcement) -> None:
    soft = limits(enforcement, tokens=100, nano_usd=None)
    status = posted(granted(begun(soft), 500, spec=soft), spec=soft, spent=spend(700))
    assert (day(status).settled_tokens, day(status).overrun_tokens) == (700, 0)
    # switched to Hard in mid-window: what is spent stays, and nothing more is given
    status = granted(status, 1, spec=HARD.model_copy(update={"windows": soft.windows}))
    assert day(status).authorized_tokens == 700


def test_windows_open_once_the_newest_first_and_a_clock_that_lags_opens_nothing() -> None:
    status = begun()
    assert roll(status, HARD, now=NOON - timedelta(days=3)) is status
    following = roll(status, HARD, now=NOON + timedelta(days=1))
    assert [window.name for window in following.windows] == ["daily", "daily", "monthly"]
    assert following.windows[0] == day(following)
    assert day(following).start == day(status).end


def test_a_changed_zone_keeps_the_window_and_the_next_follows_without_a_gap() -> None:
    status = granted(begun(), 700)
    tokyo = HARD.model_copy(update={"time_zone": "Asia/Tokyo"})
    assert roll(status, tokyo, now=NOON + timedelta(hours=10)) is status
    following = roll(status, tokyo, now=NOON + timedelta(hours=11))
    assert day(following).start == day(status).end == "2026-11-24T23:00:00Z"
    assert day(following).end == "2026-11-25T15:00:00Z"
    assert following.window(day(status).key) == day(status)


def test_a_late_settlement_finds_its_window_until_that_is_closed() -> None:
    status = granted(begun(), 100)
    key = day(status).key
    status = roll(status, HARD, now=NOON + timedelta(hours=11, minutes=30))
    status, _ = post(status, HARD, "a/1", [Posting(key=key, spent=spend(60))])
    assert (day(status).settled_tokens, status.window(key)) == (0, status.windows[1])
    closed = close(status, now=NOON + timedelta(hours=13))
    assert [(book.tokens, book.presumed_tokens) for book in closed.closed] == [(60, 40)]
    assert closed.holders == ()
    again, found = post(closed, HARD, "a/1", [Posting(key=key, spent=spend(60))])
    assert (again, found) == (closed, {})


def test_books_are_kept_by_age_and_the_oldest_go_first() -> None:
    status, now = begun(), NOON
    for _ in range(70):
        now += timedelta(days=1)
        status = close(roll(status, HARD, now=now), now=now)
    ends = [instant(book.end) for book in status.closed if book.name == "daily"]
    assert ends == sorted(ends)
    assert now - KEPT_DAYS < ends[0] <= now - KEPT_DAYS + timedelta(days=1)
    assert len([book for book in status.closed if book.name == "monthly"]) == 3
    assert len(status.closed) <= MAX_CLOSED


def test_windows_never_outgrow_their_list() -> None:
    status, now = begun(), NOON
    for _ in range(40):
        now += timedelta(days=1)
        status = granted(close(roll(status, HARD, now=now), now=now), 1, "a/1")
        assert len(status.windows) <= MAX_WINDOWS


def test_accounts_that_were_lost_count_as_spent_until_their_window_ends_or_a_person_forgives() -> None:
    status = presume_all(posted(granted(begun(), 300), spent=spend(100)), HARD)
    assert (day(status).authorized_tokens, day(status).presumed_tokens) == (1000, 700)
    assert day(status).authorized_nano_usd == 0  # no limit, nothing to be spent
    assert day(granted(status, 1)).authorized_tokens == 1000
    forgiven = forgive_presumed(status, day(status).key)
    assert (day(forgiven).authorized_tokens, day(forgiven).presumed_tokens) == (300, 0)
    assert forgive_presumed(forgiven, day(status).key) is forgiven
    assert day(roll(status, HARD, now=NOON + timedelta(days=1))).authorized_tokens == 0


def test_models_beyond_the_list_are_summed_as_others() -> None:
    status = begun()
    for number in range(MAX_MODELS + 5):
        status = posted(status, spent=spend(1, name=f"m{number}"))
    assert len(day(status).models) == MAX_MODELS
    others = next(model for model in day(status).models if model.name == OTHER_MODELS)
    assert others.tokens == 6
    assert sum(model.tokens for model in day(status).models) == day(status).settled_tokens == MAX_MODELS + 5


def test_one_holder_more_than_can_be_listed_is_told_so() -> None:
    status = begun()
    hands = (Holder(holder=f"pod-{number}/w", window="daily", start=day(status).start) for number in range(MAX_HOLDERS))
    status = status.model_copy(update={"holders": tuple(hands)})
    with pytest.raises(BooksFull):
        posted(status, "one-more/w")
    assert posted(status, "pod-7/w", spent=spend(5)).window(day(status).key) is not None
