"""The table: every ledger by processes and by size of the budget, overspend and utilisation, and check-then-add beside them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.budgets import load
from tests.bench.budgets.figures import Figure
from tests.bench.budgets.ledgers import LedgerChoice, LedgerKind
from tests.bench.budgets.processes import Billed, ModelServerProcess, WorkerProcess, workers
from tests.bench.budgets.stage import Stage
from tests.bench.budgets.worker import Order

from agentservice_api.budget import Amount

PROCESSES: Final = (1, 2, 4, 8)
BUDGETS: Final = (30, 200, 2000)
KINDS: Final = tuple(LedgerKind)

HEAD: Final = (
    "| ledger | processes x clients | requests that fit | overspend % | used % | served | refused | gave up waiting | unavailable | seconds |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one load."""

    table: str = "table"
    kind: str
    processes: int
    requests: int
    """About so many fit."""
    over_percent: float
    """Billed beyond the limit, of the limit, in the unit that is worse."""
    used_percent: float
    """Billed of the limit, in the unit that is nearer to it."""
    served: int
    refused: int
    timed_out: int
    """Clients that gave up after waiting while BUSY."""
    unavailable: int = 0
    """How often a client was told that the ledger cannot be asked; it comes back, as callers do at a 503."""
    seconds: float

    def __str__(self) -> str:
        return (
            f"| {self.kind} | {self.processes} x {load.CLIENTS} | {self.requests} | {self.over_percent:.2f}"
            f" | {self.used_percent:.2f} | {self.served} | {self.refused} | {self.timed_out} | {self.unavailable} | {self.seconds:.1f} |"
        )

    def figures(self) -> Iterator[Figure]:
        name = f"{self.table}/{self.kind}/{self.requests}/{self.processes}"
        yield Figure(f"{name}/overspend %", self.over_percent)
        yield Figure(f"{name}/used %", self.used_percent)
        yield Figure(f"{name}/unavailable", self.unavailable)


def over_percent(billed: Amount, limit: Amount) -> float:
    beyond = (billed - limit).non_negative()
    return max(100 * beyond.tokens / limit.tokens, 100 * beyond.nano_usd / limit.nano_usd)


def used_percent(billed: Amount, limit: Amount) -> float:
    return max(100 * billed.tokens / limit.tokens, 100 * billed.nano_usd / limit.nano_usd)


def run_row(
    choice: LedgerChoice,
    crew: Sequence[WorkerProcess],
    *,
    pod_uids: Sequence[str],
    requests: int,
    server: ModelServerProcess,
) -> tuple[Row, Billed]:
    """Let the crew spend one account and return what came of it."""
    limit = choice.spec.limit("daily")
    for worker, uid in zip(crew, pod_uids, strict=True):
        worker.take(Order(ledger=choice, pod_uid=uid, server=server.url, patience_seconds=load.WAIT_SECONDS))
    for worker in crew:
        worker.wait_ready()
    for worker in crew:
        worker.go()
    done = [worker.wait_done() for worker in crew]
    for worker in crew:
        worker.close()
    for worker in crew:
        worker.wait_closed()
    billed = server.billed(choice.name)
    outcomes = sum((Counter(one.outcomes) for one in done), Counter[str]())
    row = Row(
        kind=choice.kind,
        processes=len(crew),
        requests=requests,
        over_percent=over_percent(billed.amount, limit),
        used_percent=used_percent(billed.amount, limit),
        served=outcomes["served"],
        refused=outcomes["exhausted"],
        timed_out=outcomes["busy"],
        unavailable=outcomes["unavailable"],
        seconds=max(one.seconds for one in done),
    )
    if outcomes["served"] != len(billed.bills):
        raise AssertionError(f"{len(billed.bills)} requests were billed, but the clients met {dict(outcomes)}")
    return row, billed


def measure(
    stage: Stage,
    *,
    kinds: Sequence[LedgerKind] = KINDS,
    processes: Sequence[int] = PROCESSES,
    budgets: Sequence[int] = BUDGETS,
    progress: Callable[[str], None],
) -> Iterator[Row]:
    """Yield the rows as they come."""
    for count in processes:
        with workers(count) as crew:
            for kind in kinds:
                for requests in budgets:
                    progress(f"{kind}: {count} x {load.CLIENTS} clients, {requests} requests fit")
                    limits = load.Limits(daily=load.limit(requests), time_zone=load.noon_zone())
                    choice = stage.account(kind, f"row-{uuid.uuid4().hex[:8]}", limits.spec(), pods=count)
                    pod_uids = stage.pod_uids(choice, count=count)
                    row, _ = run_row(choice, crew, pod_uids=pod_uids, requests=requests, server=stage.server)
                    stage.close(choice)
                    yield row
