"""Decides how a run of the bench becomes a page of the documentation: what was measured, on what, and the tables as they were printed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

INTRODUCTION: Final = """\
# What the operator costs, measured

`make bench-operator` prints these tables anew, with `CHECK=1` it fails when a figure is outside of
`tests/bench/operator/ranges.toml`, and with `WRITE=docs/operator-figures.md` it writes this page. `make bench` beside it follows 200
agents with a controller manager, until their pods are Ready.

A real etcd and API server for each program, nobody else on them, and the two cores shared by all. Each resource has seven children. *The limit
client* is no operator: it sends what an operator has to send, 50 requests at a time over one connection, every body serialised before the
clock starts. The *controller-runtime operator* is a plain one, in Go, with the same children by server-side apply. Ours creates by POST,
which costs the API server less than an apply, and applies from a child's first change on: that change takes two writes, because the ownership of what was
posted is turned into an apply's, and later ones take one. *All CPU* is that of API server, etcd and program together: on two cores that is what bounds the rate.
With 1,000 resources the programs take turns, three rounds of them: a ratio is of two programs of one round, and the mean of the rounds counts.

An agent with a budget takes four writes more: Role, RoleBinding, AgentLedger and its accounts. Drift is measured on one of those, so that it is
of all kinds of children. A single agent beside a crowd is made once all of the crowd has been sent: it is then the newest, and in the same namespace every second
turn is the newest one's. One that is made in the midst of its own namespace's crowd is one of them."""


def page(lines: Sequence[str], *, today: date, seconds: float, outside: Sequence[str]) -> str:
    """Return the page, in Markdown. ``lines`` are what was printed, the machine first."""
    machine, *tables = lines
    verdict = "Every figure was inside of its range." if not outside else "Outside of their ranges:"
    taken = (
        f"Written by the bench on {today:%Y-%m-%d}, in {seconds / 60:.0f} minutes, on a virtual machine that other work shared: "
        f"{machine}.\nCounts of writes do not depend on the load, ratios little; seconds and milliseconds do. {verdict}"
    )
    found = "\n".join(f"- {line}" for line in outside)
    parts = [INTRODUCTION, taken, found, "\n".join(tables).strip()]
    return "\n\n".join(part for part in parts if part) + "\n"
