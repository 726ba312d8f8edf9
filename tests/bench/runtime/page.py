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

Of the bare loop's time about a half is pydantic-ai's, a third the provider's SDK, the rest HTTP. What was found in it, tried and kept, so that a
run of ours leaves out a part of what the bare loop pays:

| found | of a run | what is done | where (`runtime/src/agentservice_runtime/`) |
|---|---|---|---|
| the SDK walks every body along its type hints before it sends it | 11 % | plain JSON is sent as it is | `openai_client.py` |
| the SDK builds every answer, and every piece of a stream, along its type hints in Python | 2 %, of a stream 16 % | pydantic's validator, 20 times faster; what does not fit goes the SDK's way | `openai_client.py` |
| the SDK takes each event of a stream apart line by line, in Python, through four generators | of a stream 4 % | one line of JSON, which is what they are, goes to the validator as it comes | `openai_client.py` |
| `max_retries` as a setting of a request copies the whole client | | it is set on the client, once | `openai_client.py` |
| httpx's HTTP/1.1 in Python | 9 % more than aiohttp's in C | aiohttp beneath httpx | `aiohttp_transport.py` |
| aiohttp with `trust_env` looks for proxies and reads .netrc on two threads for each request | two waits for a thread | once for each host | `aiohttp_transport.py` |
| anyio asks sniffio which loop runs, a hundred times a run | 5 % | it is said once | `serve.py` |
| on the server's side, h11 in Python | | httptools | `serve.py` |

What is ours was made smaller likewise. pydantic-ai copies a run's context for each capability at each of a dozen hooks, 0.1 ms for a capability that
does nothing, so one is passed and not five (`course.py`). The cache's two steps share one connection to Redis without a pool in between, and its
lease has a timer and no task: 0.08 ms a miss in place of 0.33 (`redis_scripts.py`, `cache/flight.py`). A stream is sent by the run itself (`outlet.py`):
as pydantic-ai's `run_stream_events` and a task that keeps the line alive hand it on, each token waits three turns of the loop, in which all
other streams have their turn. That was 15 % of a stream's processor time, and the first token came at 1.17 of the bare loop's. The head goes with the first word where
that comes within 0.2 s: sent alone, twenty of them hold up the first words of all.

Tried and not kept: letting only one or two runs prepare at a time, so that the first of a burst answer first. It cost up to a third more processor time,
for there is less to do in each turn of the loop, and no first token came sooner.

What is left of ours, by samples of a run of 5 ms: HTTP about 0.25 ms, the cache 0.3 (0.1 of it the digest of the key), the one capability 0.2, the
budget 0.1, the log line and metrics less.

Memory: what an agent does not use is not imported: the Redis client (19 MB), what judges JSON Schemas, and what libraries bring for a command line
or for developers (`frugal.py`; rich and watchfiles among them), 7 MB together. What the imports needed for a moment is given back to the system once the
agent is ready (12 MB)."""
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
