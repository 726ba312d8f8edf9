"""Waiting for something to become true, and saying why it has not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait(what: str, look: Callable[[], T], *, seconds: float, why: Callable[[], object], every: float = 0.2) -> T:
    """Return the first true answer of `look`. Raises AssertionError that says what is missing and what `why` returns."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{why()}")
        time.sleep(every)
