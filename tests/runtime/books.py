"""What tests of budgets have in common: a budget without a cluster, and the books that it keeps."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USAGE = 28
"""Tokens that the stand-in bills for an answer."""


@dataclass(frozen=True)
class Books:
    """What the ledger's file says of today."""

    path: Path

    def today(self) -> dict[str, int]:
        with sqlite3.connect(self.path) as db:
            row = db.execute(
                "SELECT settled_tokens, settled_nano, presumed_tokens, reserved_tokens FROM window WHERE name = 'daily'"
            ).fetchone()
        return dict(zip(("settled", "nano", "presumed", "reserved"), row or (0, 0, 0, 0), strict=True))

    def models(self) -> dict[str, tuple[str, int]]:
        with sqlite3.connect(self.path) as db:
            rows = db.execute("SELECT name, price, tokens FROM model WHERE \"window\" = 'daily'").fetchall()
        return {name: (price, tokens) for name, price, tokens in rows}


def budget(
    *models: str,
    tokens: int | None = 1_000_000,
    usd: str | None = None,
    enforcement: str = "Hard",
    priced: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """A budget without a cluster, with a price for each of ``models``."""
    limit = {"name": "daily", "tokens": tokens, "nanoUSD": None if usd is None else int(float(usd) * 1e9)}
    prices = [
        {"model": f"openai:{m}", "inputPerMillionUSD": "0.15", "outputPerMillionUSD": "0.60", "source": f"spec/{m}"}
        for m in models
        if priced
    ]
    windows = [{key: value for key, value in limit.items() if value is not None}]
    terms = {"enforcement": enforcement, "windows": windows, "prices": prices}
    return {"ledger": "SQLite", "terms": terms, **more}
