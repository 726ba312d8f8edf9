"""Decides how a run of the bench becomes a page of the documentation: what was measured, on what, and the tables as they were printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from tests.bench.budgets.faults import LONG
from tests.bench.budgets.load import BOUND, CLIENTS, MEAN, WAIT_SECONDS
from tests.bench.budgets.whole import PROCESSES

INTRODUCTION: Final = f"""\
# That budgets hold, measured

`make bench-budgets` prints these tables anew, with `CHECK=1` it fails when a figure is outside of
`tests/bench/budgets/ranges.toml`, and with `WRITE=docs/budget-figures.md` it writes this page. [Budgets](budgets.md) says what is promised.

Everything is real: a model server that bills, whose count is the only truth; processes with {CLIENTS} concurrent clients each; a
redis-server; an API server with the operator. A request is bounded at {BOUND.tokens} tokens and costs {MEAN.tokens} on average, by chance. The limit is in
tokens and in dollars, and chance decides which is reached first. *Used* is what was billed of the limit once every client has been
refused or has waited for {WAIT_SECONDS:g} s.
"""

WORDS: Final[Mapping[str, str]] = {
    "table": """\
*Check, then add* is what most systems do: look whether there is budget left, call the model, add what it cost. It overspends on the same load,
which proves that the load bites. The rest must be 0, and is.""",
    "whole": f"""\
{PROCESSES} runtimes as pods run them, asked over HTTP: the meter decides what is reserved, and its bound has room for what providers add to a request.""",
    "faults": f"""\
In the middle of a load of {LONG.workers} processes. What cannot be known counts as spent, so less may be used. Nothing that was billed may be missing in the
books, or it could be spent again. The exception is a Redis that stands alone and loses its data: what it forgets is spent twice, up
to one more budget.""",
    "endurance": """\
One process is killed in each of ten rounds. In the end no reservation is left open, and no process has grown.""",
    "cost": """\
Processor time in batches that take turns, so that whatever else the machine does meets all alike: first of Redis and its client together, then of
the process of whole runs, in rounds that go through all three and back again (A B C C B A). Each ratio is of one round.""",
}


@dataclass
class Page:
    """What was printed, part by part."""

    machine: str
    parts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def begin(self, name: str, *, title: str, head: Sequence[str]) -> None:
        """Begin the part called ``name``."""
        self.parts[name] = [f"## {title}", "", WORDS[name], "", *head]

    def add(self, name: str, row: str) -> None:
        """Add a row to a part."""
        self.parts[name].append(row)

    def text(self, *, today: date, seconds: float, verdict: str) -> str:
        """Return the page, in Markdown."""
        taken = (
            f"Written by the bench on {today:%Y-%m-%d}, in {seconds / 60:.0f} minutes, on a virtual machine that other work shared: {self.machine}.\n"
            f"What is spent does not depend on the load; seconds do. {verdict}."
        )
        return "\n\n".join([INTRODUCTION.rstrip(), taken, *("\n".join(lines) for lines in self.parts.values())]) + "\n"
