"""Decides which figures must lie in which range, and says so of each that does not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANGES = Path(__file__).parent / "ranges.toml"

Figures = dict[str, float]
"""By name; `ranges.toml` uses the same names."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a figure of one size has to be."""

    size: int
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        low = f"at least {self.at_least:g}" if self.at_least is not None else ""
        high = f"at most {self.at_most:g}" if self.at_most is not None else ""
        exact = self.at_least is not None and self.at_least == self.at_most
        return f"exactly {self.at_least:g}" if exact else " and ".join(part for part in (low, high) if part)


def ranges(path: Path = RANGES) -> list[Range]:
    """Read the ranges. Raises TypeError for a key that is none of a range's."""
    tables: list[dict[str, Any]] = tomllib.loads(path.read_text())["range"]
    found: list[Range] = []
    for table in tables:
        for size in table.pop("sizes"):
            found.append(Range(size=size, **table))
    return found


def outside(figures: Mapping[int, Figures], wanted: Iterable[Range]) -> list[str]:
    """One line for each figure that was measured and lies outside its range, and for each that should have been measured."""
    found: list[str] = []
    for wish in wanted:
        if wish.size not in figures:
            continue
        value = figures[wish.size].get(wish.figure)
        if value is None:
            found.append(f"{wish.size}: {wish.figure} was not measured, must be {wish}")
        elif not wish.holds(value):
            found.append(f"{wish.size}: {wish.figure} is {value:.3g}, must be {wish}")
    return found
