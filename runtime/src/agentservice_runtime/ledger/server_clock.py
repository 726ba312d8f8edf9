"""Decides what time it is for a budget in a cluster: the API server's, never this machine's.

The `Date` header is cut to whole seconds and is old by the time it is read, so each one is a lower bound of the server's
time; the largest of them, carried on by the local monotonic clock, lags by less than a second after a few answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class ServerClock:
    """Only moves forward: a server that lags, as one of several behind an address may, does not set it back."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._epoch: float | None = None
        """The server's time, in seconds since 1970, when ``monotonic`` was 0."""
        self.moved: Callable[[], None] = _nothing
        """Called after each step forward: what was worked out from the time before is no longer true."""

    def saw(self, date: str | None) -> None:
        """Take the `Date` header of an answer that has just arrived. What is no date is passed over."""
        try:
            moment = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        epoch = moment - self._monotonic()
        if self._epoch is None or epoch > self._epoch:
            self._epoch = epoch
            self.moved()

    @property
    def is_set(self) -> bool:
        """Whether the server has answered yet."""
        return self._epoch is not None

    def now(self) -> datetime:
        """Return the server's time. Raises ValueError before the first answer."""
        if self._epoch is None:
            raise ValueError("the API server has not answered yet, so there is no time")
        return datetime.fromtimestamp(self._epoch + self._monotonic(), UTC)

    def monotonic_at(self, moment: datetime) -> float:
        """Return what the local monotonic clock shows at ``moment``, as known now. Raises ValueError as `now` does."""
        if self._epoch is None:
            raise ValueError("the API server has not answered yet, so there is no time")
        return moment.timestamp() - self._epoch


def _nothing() -> None:
    pass
