"""Decides how spend is counted: whole tokens and whole nano-USD, never a float.

A price of $0.01 per million tokens is 10 nano-USD per token, so nothing that is sold rounds to nothing. Amounts of money
stay below 2^53 nano-USD (9.0 million dollars), where JSON readers and Lua count exactly too.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

NANO_PER_USD: Final = 1_000_000_000
MAX_UNITS: Final = 2**53 - 1
"""The largest count of either unit that a double holds exactly."""


@dataclass(frozen=True, slots=True)
class Amount:
    """So many tokens and so many nano-USD. Adds and subtracts unit by unit; a difference may be negative."""

    tokens: int = 0
    nano_usd: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.nano_usd + other.nano_usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.nano_usd - other.nano_usd)

    def __bool__(self) -> bool:
        return bool(self.tokens or self.nano_usd)

    def fits(self, other: Amount) -> bool:
        """Tell whether ``other`` is at least this much in both units."""
        return self.tokens <= other.tokens and self.nano_usd <= other.nano_usd

    def at_most(self, other: Amount) -> Amount:
        """Return the smaller of each unit."""
        return Amount(min(self.tokens, other.tokens), min(self.nano_usd, other.nano_usd))

    def at_least(self, other: Amount) -> Amount:
        """Return the larger of each unit."""
        return Amount(max(self.tokens, other.tokens), max(self.nano_usd, other.nano_usd))

    def non_negative(self) -> Amount:
        """Return this, with a negative unit as 0."""
        return self.at_least(ZERO)


ZERO: Final = Amount()
UNLIMITED: Final = Amount(MAX_UNITS, MAX_UNITS)
"""Stands for a limit that is not set; larger than anything that is ever spent."""


def nano_from_usd(usd: Decimal | str) -> int:
    """Return whole nano-USD, rounded up: what is owed is never counted short."""
    return int((Decimal(usd) * NANO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def usd_string(nano_usd: int, *, decimals: int | None = None) -> str:
    """Return a decimal string of USD, exact, without trailing zeros; or rounded to so many ``decimals``."""
    if decimals is not None:
        return f"{Decimal(nano_usd) / NANO_PER_USD:.{decimals}f}"
    whole, part = divmod(abs(nano_usd), NANO_PER_USD)
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}{whole}.{part:09d}".rstrip("0") if part else f"{sign}{whole}"
