"""Decides how a run of the bench becomes a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from tests.bench.runtime.measure import CLIENTS, HEAD, MANY, STREAMS_AT_ONCE, Fact, Row
from tests.bench.runtime.model_server import TOKENS

INTRODUCTION: Final = f"""\
# What serving an agent costs, measured

`make bench-runtime` prints these tables anew, with `CHECK=1` it fails when a figure is outside of `tests/bench/runtime/ranges.toml`, and with
`WRITE=docs/runtime-figures.md` it writes this page.

Three processes are compared, each alone on one processor, asked in batches that take turns; each ratio is of two batches of one round. *The bare loop* is
`agent.run` with {CLIENTS} callers at once: nothing is served, counted or limited. *The guide's app* is that of the production guide, with one agent
for all requests. *Ours* is the runtime as a pod has it: a budget whose slice is in hand, on a real API server; the response cache on a real
Redis, missed each time; retries and metrics on. The model answers at once, from another processor: what is left is what we and the libraries do."""
WHY: Final = """\
## Why the bare loop is not the floor

Of the bare loop's time about a half is pydantic-ai's, a third the provider's SDK, the rest HTTP. What was found in that third, tried, and kept
(`runtime/src/agentservice_runtime/openai_client.py`): the SDK walks every body along its type hints before it sends it (11 % of a run);
`max_retries` as a setting of a request copies the whole client for that request (so it is set on the client, once); httpx's HTTP/1.1 in Python
costs twice what aiohttp's in C does (9 %). On the side of the server the parser is httptools and not h11. Together they save a fifth of a run,
which pays for about half of what budget, cache, metrics and HTTP add.
Memory: the Redis client is imported only by agents that use Redis (19 MB), and what the imports needed for a moment is given back to the system
once the agent is ready (12 MB)."""
TITLES: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "run": ("A run", HEAD),
    "stream": (f"A stream of {TOKENS} tokens, {STREAMS_AT_ONCE} at once", HEAD),
    "crowd": (f"{MANY} streams at once in one pod", ("| | |", "|---|---|")),
    "idle": ("A pod that nobody asks", ("| | |", "|---|---|")),
}


@dataclass
class Page:
    """What was printed, part by part."""

    machine: str
    parts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add(self, name: str, row: Row | Fact) -> str:
        """Add a row to a part, and return the lines that are new."""
        title, head = TITLES[name]
        is_new = name not in self.parts
        lines = self.parts.setdefault(name, [f"## {title}", "", *head])
        if isinstance(row, Fact) and head is HEAD:
            added = [f"{row.what}: {row.value:.3g}"]
            lines += ["", *added]
        else:
            added = [str(row)]
            lines += added
        return "\n".join(lines if is_new else added)

    def text(self, *, today: date, seconds: float, verdict: str, wrong: Sequence[str]) -> str:
        """Return the page, in Markdown. ``wrong`` are the figures that are not what is promised."""
        taken = (
            f"Written by the bench on {today:%Y-%m-%d}, in {seconds / 60:.0f} minutes, on a virtual machine that other work shared: {self.machine}.\n"
            f"Ratios depend little on the load; milliseconds do. {verdict}."
        )
        taken = "\n".join([taken, *(["", *(f"- {line}" for line in wrong)] if wrong else [])])
        return "\n\n".join([INTRODUCTION, taken, *("\n".join(lines) for lines in self.parts.values()), WHY]) + "\n"
