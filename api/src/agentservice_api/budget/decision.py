"""Decides whether a reservation fits one window: the rule that every ledger follows, in Python and in Lua alike."""

from __future__ import annotations

from enum import StrEnum

from agentservice_api.budget.amount import Amount


class Verdict(StrEnum):
    """What becomes of a request."""

    GRANT = "GRANT"
    """It may be sent."""
    BUSY = "BUSY"
    """Only reservations in flight stand in the way: wait, some will settle for less."""
    EXHAUSTED = "EXHAUSTED"
    """What is spent already stands in the way: wait for the window's end."""


def decide(*, limit: Amount, spent: Amount, reserved: Amount, bound: Amount, minimum: Amount) -> tuple[Verdict, Amount]:
    """Return the verdict, and with GRANT the amount: ``bound``, or less but at least ``minimum`` near the limit.

    ``spent`` is settled, overrun and presumed together; ``reserved`` is what may still settle for less. As long as
    ``bound`` could fit once everything in flight has settled, waiting is better than a short answer; only what can
    never fit in full is squeezed.
    """
    left = limit - spent  # if all in flight settled for nothing
    free = left - reserved
    if bound.fits(free):
        return Verdict.GRANT, bound
    if bound.fits(left):
        return Verdict.BUSY, Amount()
    if minimum.fits(free):
        return Verdict.GRANT, bound.at_most(free)
    if minimum.fits(left):
        return Verdict.BUSY, Amount()
    return Verdict.EXHAUSTED, Amount()
