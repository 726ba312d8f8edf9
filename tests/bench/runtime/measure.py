"""Decides what is measured of the subjects, in batches that take turns, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.budgets import load
from tests.bench.budgets.figures import Figure
from tests.bench.budgets.ledgers import LedgerChoice, LedgerKind
from tests.bench.budgets.processes import REPOSITORY
from tests.bench.budgets.runtimes import RuntimeProcess
from tests.bench.budgets.stage import Stage
from tests.bench.operator.process import megabytes
from tests.bench.runtime.model_server import TOKEN_SECONDS, TOKENS
from tests.bench.runtime.subjects import PINNED, Bare, Batch, Guide, Subject, served

CLIENTS: Final = 32
RUNS: Final = 96
"""In a batch."""
STREAMS: Final = 40
STREAMS_AT_ONCE: Final = 20
MANY: Final = 500
ROUNDS: Final = 30
WARM_UP: Final = 3
STARTS: Final = 7
BARE: Final = "the bare loop"
GUIDE: Final = "the guide's app, one agent for all requests"
OURS: Final = "ours: budget, cache (a miss), retries, metrics"
HEAD: Final = (
    "| | CPU ms | to the bare loop | quartiles | per second and core | to the bare loop |",
    "|---|---|---|---|---|---|",
)

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One subject beside the bare loop."""

    what: str
    name: str
    """Of its figures."""
    batches: Sequence[Batch]
    beside: Sequence[Batch]
    """The bare loop's, of the same rounds."""
    requests: int

    def _ratios(self, of: Callable[[Batch], float]) -> list[float]:
        return [of(ours) / of(theirs) for ours, theirs in zip(self.batches, self.beside, strict=True)]

    def figures(self) -> Iterator[Figure]:
        yield Figure(f"{self.name}/cpu", statistics.median(self._ratios(lambda batch: batch.cpu)))
        yield Figure(f"{self.name}/rate", statistics.median(self._ratios(lambda batch: 1 / batch.seconds)))

    def __str__(self) -> str:
        cpu = self._ratios(lambda batch: batch.cpu)
        first, _, third = statistics.quantiles(cpu, n=4)
        each = 1000 * statistics.median(batch.cpu for batch in self.batches) / self.requests
        rate = self.requests / statistics.median(batch.seconds for batch in self.batches)
        compared = statistics.median(self._ratios(lambda batch: 1 / batch.seconds))
        return f"| {self.what} | {each:.2f} | {statistics.median(cpu):.3f} | {first:.3f} to {third:.3f} | {rate:.0f} | {compared:.2f} |"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A number by itself."""

    what: str
    name: str
    value: float
    unit: str = ""

    def figures(self) -> Iterator[Figure]:
        yield Figure(self.name, self.value)

    def __str__(self) -> str:
        return f"| {self.what} | {self.value:.4g}{self.unit} |"


class Scene:
    """The model server and what our runtime needs for its budget and its cache. A context manager."""

    def __init__(self, *, server_port: int) -> None:
        self._port = server_port

    def __enter__(self) -> Scene:
        self._things = contextlib.ExitStack()
        self._stage = self._things.enter_context(Stage())
        limits = load.Limits(daily=load.limit(10_000_000), time_zone=load.noon_zone())
        self._choice = self._stage.account(
            LedgerKind.KUBERNETES, f"bench-{uuid.uuid4().hex[:8]}", limits.spec(), pods=1
        )
        (self._uid,) = self._stage.pod_uids(self._choice, count=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._things.close()

    @property
    def choice(self) -> LedgerChoice:
        """The account of our runtime: slices of a real AgentLedger."""
        return self._choice

    def runtime(self, *, has_cache: bool = True, environment: Mapping[str, str] | None = None) -> RuntimeProcess:
        """Return a runtime whose every part is on, or all but the cache."""
        url = {"secretKeyRef": {"name": "redis", "key": "url"}}
        changes: dict[str, Any] = {"serving": {"concurrencyPerPod": MANY, "drainTimeoutSeconds": 10}}
        if has_cache:
            changes["cache"] = {"redisUrl": url, "ttlSeconds": 600, "scope": "Shared", "uid": self._choice.name}
        return RuntimeProcess(
            account=self._choice.name,
            server=f"http://127.0.0.1:{self._port}",
            choice=self._choice,
            pod_uid=self._uid,
            changes=changes,
            secrets={"redis/url": self._stage.redis.url} if has_cache else {},
            environment=environment,
            wrapper=PINNED,
        )


def runs(scene: Scene, *, server_port: int, progress: Progress) -> Iterator[Row]:
    """Yield what a run costs each of them."""
    with Bare(server_port=server_port) as bare, Guide(server_port=server_port) as guide, scene.runtime() as runtime:
        subjects: dict[str, Subject] = {BARE: bare, GUIDE: guide, OURS: served(runtime)}
        found = _rounds(subjects, requests=RUNS, at_once=CLIENTS, is_stream=False, progress=progress)
        for what, batches in found.items():
            name = {BARE: "run/bare", GUIDE: "run/guide", OURS: "run/ours"}[what]
            yield Row(what=what, name=name, batches=batches, beside=found[BARE], requests=RUNS)


def streams(scene: Scene, *, server_port: int, progress: Progress) -> Iterator[Row | Fact]:
    """Yield what a stream costs, and how long its first token takes."""
    with Bare(server_port=server_port) as bare, scene.runtime() as runtime:
        subjects: dict[str, Subject] = {BARE: bare, OURS: served(runtime)}
        found = _rounds(subjects, requests=STREAMS, at_once=STREAMS_AT_ONCE, is_stream=True, progress=progress)
        for what, batches in found.items():
            name = {BARE: "stream/bare", OURS: "stream/ours"}[what]
            yield Row(what=what, name=name, batches=batches, beside=found[BARE], requests=STREAMS)
        pairs = zip(found[OURS], found[BARE], strict=True)
        ratios = [statistics.median(ours.first) / statistics.median(theirs.first) for ours, theirs in pairs]
        what = f"first token of {STREAMS_AT_ONCE} streams at once, to the bare loop's"
        yield Fact(what=what, name="stream/first token", value=statistics.median(ratios))


def crowd(scene: Scene, *, progress: Progress) -> Iterator[Fact]:
    """Yield what becomes of many streams at once in one pod."""
    progress(f"{MANY} streams at once")
    with scene.runtime() as runtime:
        subject = served(runtime)
        subject.batch(requests=STREAMS, at_once=STREAMS_AT_ONCE, name="warm", is_stream=True)
        batch = subject.batch(requests=MANY, at_once=MANY, name="crowd", is_stream=True)
        yield Fact(what=f"of {MANY} streams at once, complete", name="crowd/complete", value=len(batch.deltas))
        yield Fact(what=f"the fewest deltas of one, of {TOKENS} tokens", name="crowd/deltas", value=min(batch.deltas))
        yield Fact(
            what=f"seconds for all, where the model alone takes {TOKENS * TOKEN_SECONDS:g}",
            name="crowd/seconds",
            value=batch.seconds,
        )
        yield Fact(what="MiB resident after them", name="crowd/MiB", value=megabytes(runtime.pid))


def idle(scene: Scene, *, progress: Progress) -> Iterator[Fact]:
    """Yield what a pod costs that nobody asks, and how soon it is ready."""
    with scene.runtime(has_cache=False, environment={"PYTHONPROFILEIMPORTTIME": "1"}) as runtime:
        modules = _imported(runtime.whole_log)
    ratios: list[float] = []
    for number in range(STARTS):
        progress(f"start {number + 1} of {STARTS}")
        began = time.perf_counter()
        _import(modules)
        imported = time.perf_counter() - began
        began = time.perf_counter()
        with scene.runtime(has_cache=False) as runtime:
            ratios.append((time.perf_counter() - began) / imported)
            if number == STARTS - 1:
                time.sleep(2)
                yield Fact(
                    what="MiB resident, idle (openai-chat, slice ledger)",
                    name="idle/MiB",
                    value=megabytes(runtime.pid),
                )
    yield Fact(
        what=f"start to ready, to importing the same {len(modules)} modules",
        name="idle/start",
        value=statistics.median(ratios),
    )


def _rounds(
    subjects: Mapping[str, Subject], *, requests: int, at_once: int, is_stream: bool, progress: Progress
) -> dict[str, list[Batch]]:
    found: dict[str, list[Batch]] = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(-WARM_UP, ROUNDS):
        if number % 10 == 0:
            progress(f"{'streams' if is_stream else 'runs'}: round {number} of {ROUNDS}")
        for name in names:
            batch = subjects[name].batch(
                requests=requests, at_once=at_once, name=f"{number}{is_stream}", is_stream=is_stream
            )
            if number >= 0:
                found[name].append(batch)
        names = [*names[1:], names[0]]
    return found


def _imported(log: str) -> list[str]:
    """Return the modules of a log of PYTHONPROFILEIMPORTTIME, in their order."""
    found = [line.rsplit("|", 1)[1].strip() for line in log.splitlines() if line.startswith("import time:")]
    return [name for name in dict.fromkeys(found) if name not in ("imported package", "agentservice_runtime.main")]


def _import(modules: Sequence[str]) -> None:
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split(','):\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        pass\n"
    )
    subprocess.run([*PINNED, sys.executable, "-c", program, ",".join(modules)], check=True, cwd=Path(REPOSITORY))
