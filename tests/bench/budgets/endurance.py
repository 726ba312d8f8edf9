"""A hundred thousand reservations with processes killed among them: in the end none is left open, and nothing has grown."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.budgets import load
from tests.bench.budgets.figures import Figure
from tests.bench.budgets.ledgers import LedgerChoice, LedgerKind
from tests.bench.budgets.processes import Done, WorkerProcess
from tests.bench.budgets.stage import Stage
from tests.bench.budgets.worker import Order

from agentservice_api.budget import Amount
from agentservice_runtime.ledger.interface import LEASE_SECONDS

KINDS: Final = (LedgerKind.SQLITE, LedgerKind.REDIS, LedgerKind.KUBERNETES)
ROUNDS: Final = 10
SURVIVORS: Final = 3
EACH: Final = 3_400
"""Requests of each survivor in each round."""
AFTERWARDS: Final = 200
HEAD: Final = (
    "| ledger | reserved and settled | killed | reserved in the end | a process's memory: first, last round |",
    "|---|---|---|---|---|",
)


@dataclass(frozen=True, kw_only=True)
class Endured:
    """What is left after all rounds."""

    kind: LedgerKind
    settled: int
    killed: int
    reserved: Amount
    memory: tuple[int, int]
    """Resident kilobytes of the process that grew most, after the second round and after the last."""

    def figures(self) -> Iterator[Figure]:
        yield Figure(f"endurance/{self.kind}/settled", self.settled)
        yield Figure(f"endurance/{self.kind}/reserved in the end", self.reserved.tokens)
        yield Figure(f"endurance/{self.kind}/growth %", 100 * (self.memory[1] / self.memory[0] - 1))

    def __str__(self) -> str:
        first, last = (f"{kilobytes / 1024:.1f} MB" for kilobytes in self.memory)
        return f"| {self.kind} | {self.settled} | {self.killed} | {self.reserved.tokens} tokens | {first}, {last} |"


def endure(stage: Stage, kind: LedgerKind, *, progress: Callable[[str], None], each: int = EACH) -> Endured:
    """Reserve and settle without a model, killing one process in each round."""
    limits = load.Limits(daily=load.limit(10_000_000), time_zone=load.noon_zone())
    choice = stage.account(kind, f"long-{uuid.uuid4().hex[:8]}", limits.spec(), pods=SURVIVORS + 1)
    *uids, victims_uid = stage.pod_uids(choice, count=SURVIVORS + 1)
    crew = [WorkerProcess(pod_uid=uid) for uid in uids]
    settled = 0
    memory: list[list[int]] = []
    try:
        for number in range(ROUNDS):
            progress(f"{kind}: round {number + 1} of {ROUNDS}, {settled} settled")
            victim = WorkerProcess(pod_uid=victims_uid)
            _begin([*crew, victim], choice, each=each)
            done = [worker.wait_done(seconds=600) for worker in crew[:1]]
            victim.kill()
            done += [worker.wait_done(seconds=600) for worker in crew[1:]]
            settled += sum(one.outcomes.get("served", 0) for one in done)
            memory.append([one.memory for one in done])
            _close(crew)
        progress(f"{kind}: waiting until what the killed have reserved is presumed spent")
        last = _look_again(crew[0], choice, after=LEASE_SECONDS + 5)
    finally:
        for worker in crew:
            worker.kill()
        stage.close(choice)
    second, final = max(zip(memory[1], memory[-1], strict=True), key=lambda pair: pair[1] / pair[0])
    return Endured(kind=kind, settled=settled, killed=ROUNDS, reserved=last.reserved["daily"], memory=(second, final))


def _begin(workers: list[WorkerProcess], choice: LedgerChoice, *, each: int, clients: int = load.CLIENTS) -> None:
    for worker in workers:
        worker.take(Order(ledger=choice, pod_uid=worker.pod_uid, server="", requests=each, clients=clients))
    for worker in workers:
        worker.wait_ready()
    for worker in workers:
        worker.go()


def _close(workers: list[WorkerProcess]) -> None:
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.wait_closed()


def _look_again(worker: WorkerProcess, choice: LedgerChoice, *, after: float) -> Done:
    """Let leases end, make some more reservations, each of which looks for a few that died, and return what is told then."""
    time.sleep(after)
    _begin([worker], choice, each=AFTERWARDS, clients=1)
    done = worker.wait_done()
    _close([worker])
    return done


def measure(stage: Stage, *, kinds: Sequence[LedgerKind], progress: Callable[[str], None]) -> Iterator[Endured]:
    """Yield what is left of each ledger's."""
    for kind in kinds:
        yield endure(stage, kind, progress=progress)
