"""When a budget's day and month begin and end, in every time zone of the database."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from agentservice_api.budget.windows import (
    UnknownTimeZone,
    Window,
    WindowName,
    window_at,
    zone,
)

DAILY, MONTHLY = WindowName.DAILY, WindowName.MONTHLY


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("name", "moment", "zone_name", "start", "end"),
    [
        # summer time begins: 23 hours; ends: 25
        (DAILY, "2026-03-29T12:00Z", "Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        (DAILY, "2026-10-25T12:00Z", "Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        (MONTHLY, "2026-03-15T00:00Z", "Europe/Berlin", "2026-02-28T23:00Z", "2026-03-31T22:00Z"),
        # half an hour of summer time
        (DAILY, "2026-04-05T00:00Z", "Australia/Lord_Howe", "2026-04-04T13:00Z", "2026-04-05T13:30Z"),
        # leap years, and the century that is one
        (MONTHLY, "2028-02-29T23:59:59Z", "UTC", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        (MONTHLY, "2027-02-28T23:59:59Z", "UTC", "2027-02-01T00:00Z", "2027-03-01T00:00Z"),
        (MONTHLY, "2000-02-29T12:00Z", "UTC", "2000-02-01T00:00Z", "2000-03-01T00:00Z"),
        (MONTHLY, "2026-12-31T23:30Z", "Europe/Berlin", "2026-12-31T23:00Z", "2027-01-31T23:00Z"),
        # midnight was skipped: the day began at 1 o'clock
        (DAILY, "2018-11-04T12:00Z", "America/Sao_Paulo", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
        # midnight came twice: the day began with the first
        (DAILY, "2026-11-01T12:00Z", "America/Havana", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
        # the clock was set back at 0:01: for an hour it showed the day before again
        (DAILY, "2010-11-07T02:40Z", "America/St_Johns", "2010-11-07T02:30Z", "2010-11-08T03:30Z"),
        (DAILY, "2010-11-07T02:29Z", "America/St_Johns", "2010-11-06T02:30Z", "2010-11-07T02:30Z"),
        # Samoa skipped the 30th of December 2011 as a whole
        (DAILY, "2011-12-30T09:59Z", "Pacific/Apia", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        (DAILY, "2011-12-30T10:00Z", "Pacific/Apia", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
        # both ends of the day
        (DAILY, "2026-11-24T09:59:59Z", "Pacific/Kiritimati", "2026-11-23T10:00Z", "2026-11-24T10:00Z"),
        (DAILY, "2026-11-24T10:59:59Z", "Pacific/Pago_Pago", "2026-11-23T11:00Z", "2026-11-24T11:00Z"),
    ],
)  # fmt: skip
def test_a_window_of_a_place_and_time(name: WindowName, moment: str, zone_name: str, start: str, end: str) -> None:
    assert window_at(name, at(moment), time_zone=zone(zone_name)) == Window(name.value, at(start), at(end))


def test_a_moment_may_be_given_in_any_zone() -> None:
    moment = datetime(2026, 11, 24, 0, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert window_at(DAILY, moment, time_zone=zone("UTC")).start.date() == date(2026, 11, 23)


@pytest.mark.parametrize("name", ["Europe/Berlinn", "Local", "", "../etc/passwd", "+02:00", "a" * 5000, "\0", "Europe"])
def test_a_zone_that_does_not_exist_is_named_with_the_mend(name: str) -> None:
    with pytest.raises(UnknownTimeZone, match="write an IANA name such as Europe/Berlin") as refused:
        zone(name)
    assert len(str(refused.value)) < 200


def test_an_old_name_of_a_zone_is_a_zone() -> None:
    # the API server takes what Go's database has
    assert zone("US/Pacific").key == "US/Pacific"
    assert zone("EST5EDT").key == "EST5EDT"
