"""Decides what each request costs, and bills it: the only truth that this bench knows.

It speaks OpenAI's chat completions. Whose account is billed stands in the API key. A request is billed when it arrives,
before it is answered: whoever is killed while waiting owes it all the same. What it costs is random, below what its
text and its output cap allow. Run it with `python model_server.py PORT SEED`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

INPUT_NANO: Final = 150
"""Nano-USD per input token: $0.15 per million."""
OUTPUT_NANO: Final = 600
TOKENS_PER_BYTE: Final = (0.25, 0.5)
"""Of the input, from and to."""
MEAN_TOKENS_PER_BYTE: Final = sum(TOKENS_PER_BYTE) / 2
DEFAULT_CAP: Final = 16_384
"""Output tokens of a request without a cap: providers stop somewhere too."""
LATENCY: Final = (0.02, 0.08)
"""Seconds, from and to."""


@dataclass(frozen=True, slots=True)
class Bill:
    """One request as it was charged."""

    tokens: int
    nano_usd: int
    at: float
    """When it was sent, by the caller's clock."""
    day: str
    """The start of the day in which the caller's ledger says that it was reserved."""


@dataclass(slots=True)
class Account:
    """What was billed to one API key."""

    bills: list[Bill] = field(default_factory=list[Bill])
    in_flight: Counter[str] = field(default_factory=Counter[str])
    """Requests that wait for their answer, by the process that sent them."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless answers are held back, so that a caller can be killed while it waits."""


def input_tokens(text_bytes: int, source: random.Random) -> int:
    """Return what the input is billed as: a quarter to half a token per byte."""
    return max(1, int(text_bytes * source.uniform(*TOKENS_PER_BYTE)))


class ModelServer:
    """The accounts and the handlers."""

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)
        self._accounts: defaultdict[str, Account] = defaultdict(Account)

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/chat/completions", self.complete),
                web.get("/accounts/{name}", self.show),
                web.post("/accounts/{name}/hold", self.hold),
                web.post("/accounts/{name}/release", self.release),
            ]
        )
        return app

    async def complete(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        account = self._account(request.headers.get("Authorization", "").removeprefix("Bearer "))
        text = "".join(str(message.get("content") or "") for message in body["messages"])
        cap = int(body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_CAP)
        prompt = input_tokens(len(text.encode()), self._random)
        # whoever sets no cap gets a long answer; a model's answer rarely reaches a generous one
        answer = self._random.randint(1, cap)
        bill = Bill(
            tokens=prompt + answer,
            nano_usd=prompt * INPUT_NANO + answer * OUTPUT_NANO,
            at=float(request.headers.get("x-bench-at", 0)),
            day=request.headers.get("x-bench-day", ""),
        )
        account.bills.append(bill)
        process = request.headers.get("x-bench-process", "")
        account.in_flight[process] += 1
        try:
            await asyncio.sleep(self._random.uniform(*LATENCY))
            await account.held.wait()
        finally:
            account.in_flight[process] -= 1
        usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        message = {"role": "assistant", "content": "done"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": f"c-{len(account.bills)}", "object": "chat.completion", "created": 1, "model": body["model"]}
        return web.json_response({**head, "choices": [choice], "usage": usage})

    async def show(self, request: web.Request) -> web.Response:
        account = self._account(request.match_info["name"])
        bills = [[bill.tokens, bill.nano_usd, bill.at, bill.day] for bill in account.bills]
        return web.Response(
            text=json.dumps({"bills": bills, "in_flight": account.in_flight}), content_type="application/json"
        )

    async def hold(self, request: web.Request) -> web.Response:
        self._account(request.match_info["name"]).held.clear()
        return web.Response()

    async def release(self, request: web.Request) -> web.Response:
        self._account(request.match_info["name"]).held.set()
        return web.Response()

    def _account(self, name: str) -> Account:
        if name not in self._accounts:
            self._accounts[name].held.set()
        return self._accounts[name]


def main() -> None:
    port, seed = int(sys.argv[1]), int(sys.argv[2])
    web.run_app(
        ModelServer(seed=seed).app(),
        host="127.0.0.1",
        port=port,
        print=None,
        access_log=None,
        handler_cancellation=True,
    )


if __name__ == "__main__":
    main()
