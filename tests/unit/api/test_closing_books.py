"""When the books of a window are closed."""

from datetime import UTC, datetime, timedelta

from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, Window, WindowName
from agentservice_api.budget.books import LATE_SETTLEMENTS, Posting, calendar, close, closes_at, post, roll
from agentservice_api.budget.ledger import instant_text

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
SPEC = LedgerSpec()


def two_days(*, held: int) -> LedgerStatus:
    status = roll(LedgerStatus(seeded=True), SPEC, now=MONDAY)
    day = status.current("daily")
    assert day is not None
    asked = Posting(key=day.key, need=Amount(held, 0), want=Amount(held, 0))
    status, _ = post(status, SPEC, "pod/word", [asked])
    return roll(status, SPEC, now=MIDNIGHT + timedelta(minutes=1))


def test_the_current_windows_are_never_due() -> None:
    assert closes_at(roll(LedgerStatus(), SPEC, now=MONDAY)) is None


def test_a_window_waits_for_what_is_held_of_it_and_is_due_at_the_moment_that_close_goes_by() -> None:
    status = two_days(held=100)
    due = closes_at(status)
    assert due == MIDNIGHT + LATE_SETTLEMENTS
    assert close(status, now=due - timedelta(seconds=1)) == status
    assert [book.presumed_tokens for book in close(status, now=due).closed] == [100]


def test_a_window_of_which_nobody_holds_anything_waits_less() -> None:
    status = two_days(held=0)
    due = closes_at(status)
    assert due is not None
    assert due < MIDNIGHT + LATE_SETTLEMENTS
    assert len(close(status, now=due).closed) == 1
    assert closes_at(close(status, now=due)) is None


def test_where_whatever_runs_is_held_a_window_of_which_nobody_holds_anything_waits_ten_seconds() -> None:
    now = MIDNIGHT + timedelta(seconds=10)
    assert len(close(two_days(held=0), now=now, hard=True).closed) == 1
    assert not close(two_days(held=0), now=now, hard=False).closed
    assert not close(two_days(held=100), now=now, hard=True).closed


def minutes(spec: LedgerSpec, name: WindowName, previous: Window | None, moment: datetime) -> Window:
    if name is not WindowName.DAILY:
        return calendar(spec, name, previous, moment)
    start = moment.replace(second=0, microsecond=0)
    return Window(name.value, start, start + timedelta(minutes=1))


def test_where_there_is_no_room_for_more_windows_only_the_oldest_closes_early() -> None:
    status = LedgerStatus(seeded=True)
    for minute in range(13):
        status = roll(status, SPEC, now=MONDAY + timedelta(minutes=minute), calendar=minutes)
        day = status.current("daily")
        assert day is not None
        status, _ = post(status, SPEC, "pod/word", [Posting(key=day.key, need=Amount(1, 0), want=Amount(1, 0))])
    assert len(status.windows) == 14
    closed = close(status, now=MONDAY + timedelta(minutes=13))
    assert [book.start for book in closed.closed] == [instant_text(MONDAY)]
    assert close(closed, now=MONDAY + timedelta(minutes=13)) == closed
