"""In every time zone, a budget's days and months tile time, whatever zones follow each other."""

import zoneinfo
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from agentservice_api.budget.windows import WINDOWS, WindowName, successor, window_at

DAILY, MONTHLY = WindowName.DAILY, WindowName.MONTHLY
ZONES = st.sampled_from(sorted(zoneinfo.available_timezones())).map(ZoneInfo)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
THOROUGH = settings(max_examples=300, deadline=None)


@THOROUGH
@given(st.sampled_from(WINDOWS), MOMENTS, ZONES)
def test_windows_tile_time_without_a_gap_and_without_an_overlap(
    name: WindowName, moment: datetime, time_zone: ZoneInfo
) -> None:
    window = window_at(name, moment, time_zone=time_zone)
    assert moment in window
    assert window_at(name, window.start, time_zone=time_zone) == window
    assert window_at(name, window.end - timedelta(microseconds=1), time_zone=time_zone) == window
    assert window_at(name, window.end, time_zone=time_zone).start == window.end


@THOROUGH
@given(st.sampled_from(WINDOWS), MOMENTS, ZONES)
def test_a_window_begins_with_its_date_and_holds_no_other_month(
    name: WindowName, moment: datetime, time_zone: ZoneInfo
) -> None:
    window = window_at(name, moment, time_zone=time_zone)
    first, last = (edge.astimezone(time_zone) for edge in (window.start, window.end - timedelta(microseconds=1)))
    assert (first.year, first.month) == (last.year, last.month)
    if name is MONTHLY:
        assert first.day == 1
        assert (last + timedelta(days=1)).day == 1
    else:
        assert first.date() == last.date()


@THOROUGH
@given(st.sampled_from(WINDOWS), MOMENTS, ZONES, ZONES, st.timedeltas(timedelta(0), timedelta(days=70)))
def test_a_window_keeps_its_end_when_the_zone_changes_and_the_next_begins_no_earlier(
    name: WindowName, moment: datetime, before: ZoneInfo, after: ZoneInfo, later: timedelta
) -> None:
    window = window_at(name, moment, time_zone=before)
    now = window.end + later
    following = successor(window, now, time_zone=after)
    assert window.end <= following.start <= now < following.end
    assert following.end == window_at(name, now, time_zone=after).end
    if later == timedelta(0):
        assert following.start == window.end


@THOROUGH
@given(MOMENTS, st.lists(st.tuples(ZONES, st.timedeltas(timedelta(0), timedelta(hours=30))), max_size=8))
def test_starts_only_move_forward_whatever_zones_follow_each_other(
    moment: datetime, changes: list[tuple[ZoneInfo, timedelta]]
) -> None:
    window = window_at(DAILY, moment, time_zone=ZoneInfo("UTC"))
    for time_zone, idle in changes:
        following = successor(window, window.end + idle, time_zone=time_zone)
        assert following.start >= window.end
        assert following.start < following.end
        window = following
