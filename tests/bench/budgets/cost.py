"""What the meter costs, as ratios within one run: of processor time, in batches that take turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.budgets import load, script_cost
from tests.bench.budgets.cost_probe import BATCH, Probe, Subject
from tests.bench.budgets.figures import Figure
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.processes import REPOSITORY
from tests.bench.budgets.stage import Stage

KINDS: Final = (LedgerKind.REDIS, LedgerKind.KUBERNETES)
ROUNDS: Final = 800
UNMETERED: Final = "without a budget"
HEAD: Final = ("| what | CPU ms | ratio, median | ratio, quartiles |", "|---|---|---|---|")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Something beside what it is compared with."""

    what: str
    name: str
    """Of its figure."""
    milliseconds: float
    ratios: tuple[float, ...]
    """One for each pair of neighbours in time."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def figures(self) -> Iterator[Figure]:
        yield Figure(f"cost/{self.name}", self.ratio)

    def __str__(self) -> str:
        first, _, third = statistics.quantiles(self.ratios, n=4)
        return f"| {self.what} | {self.milliseconds:.2f} | {self.ratio:.3f} | {first:.3f} to {third:.3f} |"


def measure(stage: Stage, *, kinds: Sequence[LedgerKind], progress: Callable[[str], None]) -> Iterator[Cost]:
    """Yield every comparison."""
    if LedgerKind.REDIS in kinds:
        yield scripts(stage, progress=progress)
    yield from runs(stage, kinds=kinds, progress=progress)


def scripts(stage: Stage, *, progress: Callable[[str], None]) -> Cost:
    """Compare reserving and settling with two bare script calls of the same size."""
    progress("cost of reserving and settling in Redis")
    limits = load.Limits(daily=load.limit(10_000_000), time_zone=load.noon_zone())
    choice = stage.account(LedgerKind.REDIS, f"cost-{uuid.uuid4().hex[:8]}", limits.spec(), pods=1)
    pairs, bare = script_cost.measure(choice, stage.redis)
    return Cost(
        what="reserve and settle, beside two bare script calls of their size by redis-py",
        name="reserve and settle in Redis",
        milliseconds=1000 * statistics.median(pairs) / script_cost.BATCH,
        ratios=tuple(ours / theirs for ours, theirs in zip(pairs, bare, strict=True)),
    )


def runs(stage: Stage, *, kinds: Sequence[LedgerKind], progress: Callable[[str], None]) -> Iterator[Cost]:
    """Compare runs with a budget that is far from its limit with the same runs without one."""
    subjects = [Subject(name=UNMETERED, choice=None)]
    for kind in kinds:
        limits = load.Limits(daily=load.limit(10_000_000), time_zone=load.noon_zone())
        choice = stage.account(kind, f"cost-{uuid.uuid4().hex[:8]}", limits.spec(), pods=1)
        (uid,) = stage.pod_uids(choice, count=1)
        subjects.append(Subject(name=kind, choice=choice, pod_uid=uid))
    seconds = _probe(Probe(server=stage.server.url, subjects=subjects, rounds=ROUNDS), progress=progress)
    plain = seconds[UNMETERED]
    for name, took in seconds.items():
        yield Cost(
            what=f"one run, {name}",
            name=f"run/{name}",
            milliseconds=1000 * statistics.median(took) / (2 * BATCH),  # there and back
            ratios=tuple(with_it / without for with_it, without in zip(took, plain, strict=True)),
        )


def _probe(probe: Probe, *, progress: Callable[[str], None]) -> dict[str, list[float]]:
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.bench.budgets.cost_probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(probe.model_dump_json() + "\n")
        process.stdin.close()
        for line in process.stdout:
            said = json.loads(line)
            if "seconds" in said:
                return said["seconds"]
            if said["round"] % 50 == 0:
                progress(f"cost of a run: round {said['round']} of {probe.rounds}")
    raise AssertionError(f"the probe ended with {process.returncode}")
