"""What reserving and settling in Redis costs beside two bare script calls of the same size by redis-py, client and server together."""

from __future__ import annotations

import asyncio
import gc
import itertools
import shlex
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from tests.bench.budgets import load
from tests.bench.budgets.ledgers import LedgerChoice, make
from tests.services.redis_server import RedisServer

from agentservice_api.budget import ModelSpend

ROUNDS: Final = 160
BATCH: Final = 100
AT_ONCE: Final = 8
WARM_UP: Final = 5
BARE: Final = r"return table.concat({'OK', '1700000000000', ARGV[1], ARGV[2], '1', '1'}, '\n')"
"""Answers as the steps do: a word, a time, two accounts, two numbers, in one string."""
ACCOUNT_BYTES: Final = 60
SPEND: Final = ModelSpend(name=load.MODEL, price="bench", tokens=load.MEAN.tokens, nano_usd=load.MEAN.nano_usd)

Pair = Callable[[], Awaitable[None]]


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def sent_by(choice: LedgerChoice, redis: RedisServer) -> tuple[Sequence[str], Sequence[str]]:
    """Return the words of the two commands that a reservation and its settlement send, seen by Redis itself."""
    with socket.create_connection((redis.host, redis.port), timeout=5) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        monitor.recv(64)
        asyncio.run(_once(choice))
        time.sleep(0.2)
        lines = monitor.recv(1 << 20).decode().splitlines()
    calls = [shlex.split(line.partition("] ")[2]) for line in lines if '"EVALSHA"' in line]
    of_script: dict[str, list[list[str]]] = {}
    for call in calls:
        of_script.setdefault(call[1], []).append(call)
    repeated = [found[-1] for found in of_script.values() if len(found) >= 2]
    assert len(repeated) == 2, f"a reservation and a settlement are one script each; seen were {sorted(of_script)}"
    return repeated[0], repeated[1]


async def _once(choice: LedgerChoice) -> None:
    ledger = make(choice, pod_uid="")
    await ledger.open()
    for index in range(3):
        await _reserve_and_settle(ledger, f"first-{index:026}")
    await ledger.close()


async def _reserve_and_settle(ledger: Any, request_id: str) -> None:
    await ledger.reserve(request_id, bound=load.BOUND, minimum=load.MINIMUM)
    await ledger.settle(request_id, SPEND)


def measure(choice: LedgerChoice, redis: RedisServer) -> tuple[list[float], list[float]]:
    """Return the processor seconds of each batch: of the ledger's pairs, and of the bare pairs beside them."""
    first, second = sent_by(choice, redis)
    return asyncio.run(_measure(choice, redis, first, second))


async def _measure(
    choice: LedgerChoice, redis: RedisServer, first: Sequence[str], second: Sequence[str]
) -> tuple[list[float], list[float]]:
    # a pool with limits and time-outs, as whoever serves requests has it
    limits = {"timeout": 2.0, "socket_timeout": 2.0, "socket_connect_timeout": 2.0}
    client = Redis(connection_pool=BlockingConnectionPool.from_url(redis.url, max_connections=16, **limits))
    script = await client.script_load(BARE)
    filler = "x" * ACCOUNT_BYTES

    async def bare() -> None:
        for words in (first, second):
            keys = int(words[2])
            given = [filler, filler, *words[3 + keys + 2 :]]
            await client.evalsha(script, keys, *words[3 : 3 + keys], *given)  # pyright: ignore

    ledger = make(choice, pod_uid="")
    await ledger.open()

    numbers = itertools.count()

    async def pair() -> None:
        await _reserve_and_settle(ledger, f"{next(numbers):032}")

    took: tuple[list[float], list[float]] = ([], [])
    for number in range(-WARM_UP, ROUNDS):
        if number == 0:
            gc.collect()
            gc.freeze()
        order = [(0, pair), (1, bare)]
        for index, what in order if number % 2 else reversed(order):
            seconds = await _batch(what, redis.pid)
            if number >= 0:
                took[index].append(seconds)
    gc.unfreeze()
    await ledger.close()
    await client.aclose()
    return took


async def _batch(what: Pair, server: int) -> float:
    left = BATCH

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await what()

    began = time.process_time() + cpu_seconds(server)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(caller())
    return time.process_time() + cpu_seconds(server) - began
