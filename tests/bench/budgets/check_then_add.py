"""What most systems do: look whether there is budget left, call the model, add what it cost. It overspends, which proves that the bench bites."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from agentservice_api.budget import LedgerSpec, ModelSpend
from agentservice_api.budget.amount import Amount
from agentservice_runtime.ledger.interface import Answer, Exhausted, Granted, WindowView


class CheckThenAdd:
    """One counter in a file, shared by all processes, each step of it atomic: only the two together are not."""

    def __init__(self, *, path: Path, spec: LedgerSpec) -> None:
        self._path = path
        self._spec = spec
        self._limit = spec.limit("daily")

    @property
    def spec(self) -> LedgerSpec:
        return self._spec

    async def open(self) -> None:
        self._books = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        self._books.execute("PRAGMA synchronous=OFF")
        self._books.execute("CREATE TABLE IF NOT EXISTS spent (tokens INTEGER, nano_usd INTEGER)")

    async def close(self) -> None:
        self._books.close()

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        tokens, nano_usd = self._books.execute("SELECT total(tokens), total(nano_usd) FROM spent").fetchone()
        if Amount(int(tokens), int(nano_usd)).fits(self._limit - Amount(1, 1)):
            return Granted(amount=bound)
        return Exhausted(window="daily", resets_in=3600)

    async def renew(self, request_id: str) -> None:
        pass

    async def settle(self, request_id: str, spend: ModelSpend) -> None:
        self._books.execute("INSERT INTO spent VALUES (?, ?)", (spend.tokens, spend.nano_usd))

    async def changed(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def view(self) -> tuple[WindowView, ...]:
        return ()
