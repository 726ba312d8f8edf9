"""The table again, with whole runtimes instead of workers: the meter decides what is reserved, callers see what it answers."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.bench.budgets import load, runtimes
from tests.bench.budgets.agent import CAP, INSTRUCTIONS
from tests.bench.budgets.ledgers import LedgerKind
from tests.bench.budgets.model_server import MEAN_TOKENS_PER_BYTE
from tests.bench.budgets.stage import Stage
from tests.bench.budgets.table import Row, over_percent, used_percent

from agentservice_api.budget import Amount

PROCESSES: Final = 4
BUDGETS: Final = (30, 200)
KINDS: Final = (LedgerKind.SQLITE, LedgerKind.REDIS, LedgerKind.KUBERNETES)


def limit(requests: int) -> Amount:
    """Return about so many runs' worth."""
    sent = len(f"{INSTRUCTIONS}{load.TEXT}".encode())
    one = load.price(prompt=round(sent * MEAN_TOKENS_PER_BYTE), answer=CAP // 2)
    return Amount(one.tokens * requests, one.nano_usd * requests)


def measure(
    stage: Stage,
    *,
    kinds: Sequence[LedgerKind] = KINDS,
    budgets: Sequence[int] = BUDGETS,
    processes: int = PROCESSES,
    progress: Callable[[str], None],
) -> Iterator[Row]:
    """Yield a row for each ledger and budget."""
    for kind in kinds:
        for requests in budgets:
            progress(f"{kind}: {processes} whole runtimes x {load.CLIENTS} clients, {requests} requests fit")
            limits = load.Limits(daily=limit(requests), time_zone=load.noon_zone())
            choice = stage.account(kind, f"whole-{uuid.uuid4().hex[:8]}", limits.spec(), pods=processes)
            with contextlib.ExitStack() as running:
                started = [
                    running.enter_context(
                        runtimes.RuntimeProcess(
                            account=choice.name, server=stage.server.url, choice=choice, pod_uid=uid
                        )
                    )
                    for uid in stage.pod_uids(choice, count=processes)
                ]
                began = time.monotonic()
                outcomes = runtimes.drive([one.url for one in started])
                seconds = time.monotonic() - began
            billed = stage.server.billed(choice.name)
            stage.close(choice)
            if outcomes.keys() - {"served", "exhausted", "busy"} or outcomes["served"] != len(billed.bills):
                raise AssertionError(f"{len(billed.bills)} requests were billed, callers met {dict(outcomes)}")
            yield Row(
                table="whole",
                kind=kind,
                processes=processes,
                requests=requests,
                over_percent=over_percent(billed.amount, limits.daily),
                used_percent=used_percent(billed.amount, limits.daily),
                served=outcomes["served"],
                refused=outcomes["exhausted"],
                timed_out=outcomes["busy"],
                seconds=seconds,
            )
