"""One process of a row: many clients that reserve, call the model server and settle, as the meter of a pod does.

Started as `python -m tests.bench.budgets.worker`, it reads an order from standard input, says `ready` when its ledger is
open, begins at a line, says `done` when no client goes on, closes its ledger at the next line and says `closed`; then it
is free for another order. What it says is JSON, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from pydantic import BaseModel
from tests.bench.budgets import load
from tests.bench.budgets.ledgers import LedgerChoice, make

from agentservice_api.budget import Amount, ModelSpend
from agentservice_api.budget.ledger import instant_text
from agentservice_runtime.ledger.interface import (
    RENEW_SECONDS,
    Busy,
    Exhausted,
    Granted,
    Ledger,
    LedgerUnavailable,
)

RETRY_SECONDS: Final = 0.2


class Order(BaseModel):
    """What a worker is to do."""

    ledger: LedgerChoice
    pod_uid: str
    """Of the pod in whose place this process stands."""
    server: str
    """URL of the model server; empty: no model is asked, and what it would have cost is made up."""
    clients: int = load.CLIENTS
    wait_seconds: float = load.WAIT_SECONDS
    for_seconds: float | None = None
    """Go on for so long, over the ends of windows; without it a client stops when it is told Exhausted."""
    requests: int | None = None
    """Stop after so many."""
    patience_seconds: float = 0
    """How long a client that is told that the ledger is unavailable comes back, as callers do at a 503."""


class Clients:
    """All clients of this process and what became of their requests."""

    def __init__(self, *, order: Order, ledger: Ledger, session: ClientSession) -> None:
        self._order = order
        self._ledger = ledger
        self._session = session
        self._word = f"{os.getpid()}-{uuid4().hex[:6]}"
        self.outcomes = Counter[str]()
        self.waited = 0.0
        """The longest wait while BUSY, in seconds."""
        self._left = order.requests
        self._end = time.monotonic() + order.for_seconds if order.for_seconds is not None else None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for index in range(self._order.clients):
                tasks.create_task(self._client(f"{self._word}-{index}"))

    async def _client(self, name: str) -> None:
        number = 0
        last_answered = time.monotonic()
        while self._goes_on():
            number += 1
            try:
                goes_on = await self._request(f"{name}-{number}")
                last_answered = time.monotonic()
            except LedgerUnavailable:
                self.outcomes["unavailable"] += 1
                goes_on = time.monotonic() - last_answered < self._order.patience_seconds
                await asyncio.sleep(RETRY_SECONDS)
            if not goes_on:
                break

    def _goes_on(self) -> bool:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                return False
        return self._end is None or time.monotonic() < self._end

    async def _request(self, request_id: str) -> bool:
        answer = await self._reserve(request_id)
        match answer:
            case Exhausted():
                self.outcomes["exhausted"] += 1
                if self._end is None:
                    return False
                await asyncio.sleep(min(max(answer.resets_in, 0.02), 1.0))
                return True
            case Busy():
                self.outcomes["busy"] += 1
                return self._end is not None
            case Granted():
                pass
        spend = await self._call(request_id, answer)
        await self._ledger.settle(request_id, spend)
        self.outcomes["served"] += 1
        return True

    async def _reserve(self, request_id: str) -> Granted | Busy | Exhausted:
        began = time.monotonic()
        while True:
            answer = await self._ledger.reserve(request_id, bound=load.BOUND, minimum=load.MINIMUM)
            left = began + self._order.wait_seconds - time.monotonic()
            if not isinstance(answer, Busy) or left <= 0:
                self.waited = max(self.waited, time.monotonic() - began)
                return answer
            await self._ledger.changed(min(answer.retry_after, left))

    async def _call(self, request_id: str, grant: Granted) -> ModelSpend:
        if not self._order.server:
            await asyncio.sleep(0)
            cost = load.made_up()
            return ModelSpend(name=load.MODEL, price="bench", tokens=cost.tokens, nano_usd=cost.nano_usd)
        body = {
            "model": load.MODEL,
            "messages": [{"role": "user", "content": load.TEXT}],
            "max_completion_tokens": load.cap_within(grant.amount),
        }
        headers = {
            "Authorization": f"Bearer {self._order.ledger.name}",
            "x-bench-process": str(os.getpid()),
            "x-bench-at": repr(time.time()),
            "x-bench-day": next((instant_text(one.start) for one in self._ledger.view() if one.name == "daily"), ""),
        }
        renewing = asyncio.create_task(self._renew(request_id))
        try:
            url = f"{self._order.server}/v1/chat/completions"
            async with self._session.post(url, json=body, headers=headers) as response:
                answer: dict[str, Any] = await response.json()
        finally:
            renewing.cancel()
        usage = answer["usage"]
        cost = load.price(prompt=usage["prompt_tokens"], answer=usage["completion_tokens"])
        return ModelSpend(name=load.MODEL, price="bench", tokens=cost.tokens, nano_usd=cost.nano_usd)

    async def _renew(self, request_id: str) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._ledger.renew(request_id)
            except LedgerUnavailable:
                self.outcomes["not renewed"] += 1


def resident_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def _pair(amount: Amount) -> tuple[int, int]:
    return amount.tokens, amount.nano_usd


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def heard() -> str:
    """Return the next line of standard input; empty at its end."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def opened(order: Order) -> Ledger:
    ledger = make(order.ledger, pod_uid=order.pod_uid)
    deadline = time.monotonic() + max(order.patience_seconds, 10)
    while True:
        try:
            await ledger.open()
            return ledger
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_SECONDS)


async def main() -> None:
    connections = TCPConnector(limit=0)
    async with ClientSession(connector=connections, timeout=ClientTimeout(total=None)) as session:
        while line := await heard():
            order = Order.model_validate_json(line)
            ledger = await opened(order)
            say(event="ready")
            await heard()
            clients = Clients(order=order, ledger=ledger, session=session)
            began, cpu = time.monotonic(), time.process_time()
            await clients.run()
            view = [(window.name, *_pair(window.spent), *_pair(window.reserved)) for window in ledger.view()]
            memory = resident_kilobytes()
            said = {"memory": memory, "outcomes": clients.outcomes, "waited": clients.waited, "view": view}
            say(event="done", **said, seconds=time.monotonic() - began, cpu=time.process_time() - cpu)
            await heard()
            await ledger.close()
            say(event="closed")


if __name__ == "__main__":
    asyncio.run(main())
