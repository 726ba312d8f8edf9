"""Decides whether what was measured is within what was declared in ranges.toml."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

RANGES: Final = Path(__file__).with_name("ranges.toml")


@dataclass(frozen=True)
class Figure:
    """One number that was measured, under a name with slashes."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Range:
    """What the figures whose names match have to be: both bounds are allowed."""

    figures: str
    least: float
    most: float


def declared(path: Path = RANGES) -> tuple[Range, ...]:
    """Read the ranges; of those that match a name the first holds."""
    return tuple(
        Range(figures=entry["figures"], least=entry.get("least", -math.inf), most=entry.get("most", math.inf))
        for entry in tomllib.loads(path.read_text())["range"]
    )


def outside(figures: Iterable[Figure], ranges: Iterable[Range]) -> Iterator[str]:
    """Yield a sentence for each figure that is outside of its range, or has none."""
    ranges = tuple(ranges)
    for figure in figures:
        found = next((one for one in ranges if fnmatchcase(figure.name, one.figures)), None)
        if found is None:
            yield f"{figure.name} is {figure.value:g}, and no range is declared for it"
        elif not found.least <= figure.value <= found.most:
            yield f"{figure.name} is {figure.value:.4g}, outside of {found.least:g} to {found.most:g}"
