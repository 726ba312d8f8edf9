"""`python -m tests.bench.budgets [table] [whole] [faults] [endurance] [cost]`: all of them without an argument.

`--check` fails when a figure is outside of ranges.toml, `--write` makes a page of what was printed. What it is doing it tells on
standard error.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "devcluster"))  # as pytest's `pythonpath` does for the tests

from tests.bench.budgets import cost, endurance, faults, table, whole  # noqa: E402
from tests.bench.budgets.figures import Figure, declared, outside  # noqa: E402
from tests.bench.budgets.ledgers import LedgerKind  # noqa: E402
from tests.bench.budgets.page import Page  # noqa: E402
from tests.bench.budgets.stage import Stage  # noqa: E402
from tests.bench.machine import machine  # noqa: E402

STARTED = time.monotonic()


@dataclass(frozen=True)
class Part:
    """One table of the output. Its rows are written as they come, and each has figures."""

    title: str
    head: Sequence[str]
    kinds: Sequence[LedgerKind]
    """The ledgers that it is about, when none are named."""
    rows: Callable[..., Iterator[Any]]


PARTS = {
    "table": Part("How much of a budget is spent, and what beyond it", table.HEAD, table.KINDS, table.measure),
    "whole": Part("The same with whole runtimes, over HTTP", table.HEAD, whole.KINDS, whole.measure),
    "faults": Part("What goes wrong in the middle", faults.HEAD, faults.KINDS, faults.measure),
    "endurance": Part("A hundred thousand reservations", endurance.HEAD, endurance.KINDS, endurance.measure),
    "cost": Part("What the meter costs", cost.HEAD, cost.KINDS, cost.measure),
}


def progress(text: str) -> None:
    sys.stderr.write(f"[{time.monotonic() - STARTED:4.0f} s] {text}\n")
    sys.stderr.flush()


def say(*lines: object) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.budgets", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="which to run; all without one")
    parser.add_argument("--check", action="store_true", help="fail when a figure is outside of ranges.toml")
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--ledger", action="append", type=LedgerKind, help="only this one; repeat for several")
    parser.add_argument("--processes", type=numbers, default=table.PROCESSES, help="of the table, for instance 1,4")
    parser.add_argument("--budgets", type=numbers, default=table.BUDGETS, help="of the table, for instance 30,200")
    parser.add_argument("--fault", action="append", help="only the scenes whose name has this in it")
    chosen = parser.parse_args()
    further = {
        "table": {"processes": chosen.processes, "budgets": chosen.budgets},
        "faults": {"named": chosen.fault or ("",)},
    }
    figures: list[Figure] = []
    page = Page(machine())
    say(page.machine)
    with Stage() as stage:
        for name in chosen.part or list(PARTS):
            part = PARTS[name]
            kinds = [kind for kind in part.kinds if not chosen.ledger or kind in chosen.ledger]
            say("", part.title, "", *part.head)
            page.begin(name, title=part.title, head=part.head)
            for row in part.rows(stage, kinds=kinds, progress=progress, **further.get(name, {})):
                say(row)
                page.add(name, str(row))
                figures += row.figures()
    wrong = list(outside(figures, declared()))
    verdict = f"{len(figures)} figures, {len(wrong)} outside of ranges.toml"
    say("", verdict, *wrong)
    if chosen.write is not None:
        seconds = time.monotonic() - STARTED
        chosen.write.write_text(page.text(today=datetime.now(UTC).date(), seconds=seconds, verdict=verdict))
    if wrong and chosen.check:
        sys.exit(1)


main()
