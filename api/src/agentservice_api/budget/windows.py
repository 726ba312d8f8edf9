"""Decides when a budget's windows begin and end: calendar days and calendar months of an IANA time zone.

A window, once it has begun, keeps its bounds whatever happens to the time zone: the next one begins where it ended and
lasts until the new zone's next boundary, which makes it shorter or longer once. So nothing but its end resets a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class WindowName(StrEnum):
    """The windows that a budget has; both are always counted, limited or not, so that a limit set later knows the spend."""

    DAILY = "daily"
    MONTHLY = "monthly"


WINDOWS: Final = (WindowName.DAILY, WindowName.MONTHLY)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """``[start, end)`` in UTC."""

    name: str
    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


class UnknownTimeZone(ValueError):  # noqa: N818
    """This system's time zone database has no such zone."""


def zone(name: str) -> ZoneInfo:
    """Return the zone. Raises UnknownTimeZone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownTimeZone(
            f"there is no time zone {name[:60]!r}: write an IANA name such as Europe/Berlin"
        ) from None


def window_at(name: WindowName, moment: datetime, *, time_zone: ZoneInfo) -> Window:
    """Return the calendar window that holds ``moment`` (aware)."""
    day = moment.astimezone(time_zone).date()
    first = day.replace(day=1) if name is WindowName.MONTHLY else day
    start, end = midnight(first, time_zone), _boundary_after(name, first, time_zone)
    while end <= moment:  # a clock set back at 0:01 shows the day before again, whose window has ended
        first += timedelta(days=1)
        start, end = end, _boundary_after(name, first, time_zone)
    return Window(name, start, end)


def successor(previous: Window, moment: datetime, *, time_zone: ZoneInfo) -> Window:
    """Return the window of the same name that holds ``moment``, not before the end of ``previous``.

    ``moment`` must not lie before that end. Where the zone has changed, the first one begins at that end exactly.
    """
    found = window_at(WindowName(previous.name), moment, time_zone=time_zone)
    return Window(found.name, max(found.start, previous.end), found.end)


def midnight(day: date, time_zone: ZoneInfo) -> datetime:
    """Return the first moment of ``day`` in UTC; where a clock change skips midnight, the moment of the change."""
    local = datetime(day.year, day.month, day.day, tzinfo=time_zone)
    # fold=0 of a skipped time reads the offset of before the change, which gives exactly the change when it is at 0:00
    return local.astimezone(UTC)


def _boundary_after(name: WindowName, first: date, time_zone: ZoneInfo) -> datetime:
    if name is WindowName.DAILY:
        return midnight(first + timedelta(days=1), time_zone)
    following = first.replace(day=28) + timedelta(days=4)
    return midnight(following.replace(day=1), time_zone)
