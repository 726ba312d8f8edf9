"""One account, one crew and one load, in the middle of which something goes wrong."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.budgets import load
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.processes import Billed, Done, WorkerProcess
from tests.bench.budgets.stage import Stage
from tests.bench.budgets.worker import Order
from tests.services.programs import program

from agentservice_api.budget import Amount
from agentservice_runtime.ledger.interface import LEASE_SECONDS
from devcluster.packages import Need


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a scene is: long in the bench, short in the tests."""

    workers: int
    requests: int
    """About so many fit the limit."""
    clients: int = load.CLIENTS
    wait_seconds: float = load.WAIT_SECONDS
    seconds: float = 0
    """How long a scene lasts that does not end by itself."""
    away_seconds: float = 0
    """How long something is stopped."""
    until_presumed: bool = False
    """Wait until what is lost counts as spent, and let everybody loose once more."""


def clock_off(offset: str) -> tuple[str, ...]:
    """Return what starts a program with a clock that is off by this much, for instance +1d."""
    return (program(Need.FAKETIME), "--exclude-monotonic", "-f", offset)


class Scene:
    """A context manager. Workers are at hand when it begins; `begin` lets them loose, `finish` waits for all of them."""

    def __init__(
        self,
        stage: Stage,
        kind: LedgerKind,
        *,
        size: Size,
        patience_seconds: float = 0,
        for_seconds: float | None = None,
        period_seconds: int | None = None,
        wrappers: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        limits = load.Limits(daily=load.limit(size.requests), time_zone=load.noon_zone())
        self.stage = stage
        self.limit = limits.daily
        self.choice = stage.account(
            kind, f"scene-{uuid.uuid4().hex[:8]}", limits.spec(), pods=size.workers, period_seconds=period_seconds
        )
        self._patience = patience_seconds
        self._size = size
        self._for_seconds = for_seconds
        self._wrappers = wrappers or {}
        self.crew: list[WorkerProcess] = []
        self.done: list[Done] = []

    def __enter__(self) -> Scene:
        for index, uid in enumerate(self.stage.pod_uids(self.choice, count=self._size.workers)):
            self.join(pod_uid=uid, wrapper=self._wrappers.get(index, ()))
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.server.release(self.choice.name)
        for worker in self.crew:
            worker.kill()
        self.stage.close(self.choice)

    def join(self, *, pod_uid: str, wrapper: Sequence[str] = ()) -> WorkerProcess:
        """Start one more worker, as a process of this pod."""
        worker = WorkerProcess(pod_uid=pod_uid, wrapper=wrapper)
        self.crew.append(worker)
        return worker

    def order(self, worker: WorkerProcess) -> Order:
        return Order(
            ledger=self.choice,
            pod_uid=worker.pod_uid,
            server=self.stage.server.url,
            clients=self._size.clients,
            wait_seconds=self._size.wait_seconds,
            for_seconds=self._for_seconds,
            patience_seconds=self._patience,
        )

    def begin(self, workers: Sequence[WorkerProcess] | None = None) -> None:
        """Let these loose, or all."""
        workers = self.crew if workers is None else workers
        for worker in workers:
            worker.take(self.order(worker))
        for worker in workers:
            worker.wait_ready()
        for worker in workers:
            worker.go()

    def lose_one(self) -> tuple[WorkerProcess, int]:
        """SIGKILL the worker that waits for the most answers; return it, and how many requests it has lost."""
        waiting = self.stage.server.in_flight(self.choice.name)
        worker = max(self.crew, key=lambda one: waiting[one.pid])
        worker.kill()
        self.crew.remove(worker)
        return worker, waiting[worker.pid]

    def finish(self, *, seconds: float = 300) -> None:
        """Wait until nobody goes on, and have all close their ledgers."""
        self.done += [worker.wait_done(seconds=seconds) for worker in self.crew]
        for worker in self.crew:
            worker.close()
        for worker in self.crew:
            worker.wait_closed()

    def until_presumed(self, victim: WorkerProcess) -> None:
        """Wait until what a lost worker held counts as spent: its pod is taken away, or its leases end."""
        if self.choice.kind is not LedgerKind.KUBERNETES:
            time.sleep(LEASE_SECONDS + 2)
            return
        cluster = self.stage.cluster
        cluster.delete_pod(victim.pod_uid)

        def struck_off() -> bool:
            return not any(victim.pod_uid in hand.holder for hand in cluster.status(self.choice.name).holders)

        self.until("what the lost pod held is presumed spent", struck_off, 120)

    @property
    def billed(self) -> Billed:
        return self.stage.server.billed(self.choice.name)

    @property
    def outcomes(self) -> Counter[str]:
        return sum((Counter(done.outcomes) for done in self.done), Counter[str]())

    @property
    def booked(self) -> Amount:
        """What the books count as gone: at least what was billed, or somebody could spend it again."""
        return self.stage.booked(self.choice, self.done)

    def until_billed(self, share: float, *, seconds: float = 60) -> None:
        """Wait until this share of the limit is spent."""
        self.until(f"{share:.0%} is billed", lambda: self.billed.amount.tokens >= share * self.limit.tokens, seconds)

    def hold(self, *, in_flight: int) -> None:
        """Answer nobody any more, and wait until so many requests wait for an answer."""
        server, name = self.stage.server, self.choice.name
        server.hold(name)
        self.until(f"{in_flight} requests are in flight", lambda: server.in_flight(name).total() >= in_flight, 120)

    def release(self) -> None:
        self.stage.server.release(self.choice.name)

    def until(self, what: str, question: Callable[[], Any], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not question():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}; {len(self.billed.bills)} requests were billed")
            time.sleep(0.05)
