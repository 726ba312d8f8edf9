"""Decides what the load of a row is: the request that clients send over and over, and the limit that so many of them fit."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tests.bench.budgets.model_server import INPUT_NANO, MEAN_TOKENS_PER_BYTE, OUTPUT_NANO, TOKENS_PER_BYTE

from agentservice_api.budget import Amount, LedgerSpec, ModelPrice, WindowLimit

TEXT: Final = "How long does a parcel to the islands take? " * 9
"""396 bytes."""
CAP: Final = 300
"""Output tokens at most; on average half of it is used."""
LEAST: Final = 32
"""Near a limit the cap shrinks to this."""
WAIT_SECONDS: Final = 10.0
"""How long a client waits while the ledger is BUSY."""
CLIENTS: Final = 64
MODEL: Final = "bench"

MODEL_STRING: Final = f"openai-chat:{MODEL}"
PRICING: Final = {"inputPerMillionUSD": str(INPUT_NANO / 1000), "outputPerMillionUSD": str(OUTPUT_NANO / 1000)}
PRICE: Final = ModelPrice.model_validate({"model": MODEL_STRING, "source": "spec", **PRICING})

INPUT_BOUND: Final = math.ceil(len(TEXT.encode()) * TOKENS_PER_BYTE[1])


def price(*, prompt: int, answer: int) -> Amount:
    """Return what so many tokens cost."""
    return Amount(prompt + answer, prompt * INPUT_NANO + answer * OUTPUT_NANO)


BOUND: Final = price(prompt=INPUT_BOUND, answer=CAP)
MINIMUM: Final = price(prompt=INPUT_BOUND, answer=LEAST)
MEAN: Final = price(prompt=round(len(TEXT.encode()) * MEAN_TOKENS_PER_BYTE), answer=CAP // 2)


def made_up() -> Amount:
    """Return what a request might cost: at most BOUND."""
    return price(prompt=random.randint(1, INPUT_BOUND), answer=random.randint(1, LEAST))


def cap_within(granted: Amount) -> int:
    """Return the output tokens that a grant pays for beside the input."""
    tokens = granted.tokens - INPUT_BOUND
    money = (granted.nano_usd - INPUT_BOUND * INPUT_NANO) // OUTPUT_NANO
    return min(CAP, tokens, money)


def limit(requests: int) -> Amount:
    """Return about so many requests' worth, in both units; chance decides which is reached first."""
    return Amount(MEAN.tokens * requests, MEAN.nano_usd * requests)


def noon_zone() -> str:
    """Return a time zone in which it is about noon, so that no day ends in the middle of a row."""
    ahead = (12 - datetime.now(UTC).hour) % 24
    ahead = ahead if ahead <= 12 else ahead - 24
    return f"Etc/GMT{-ahead:+d}" if ahead else "UTC"  # the sign in these names is the other way round


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one account."""

    daily: Amount
    time_zone: str

    def spec(self) -> LedgerSpec:
        """As an AgentLedger has them."""
        window = WindowLimit(name="daily", tokens=self.daily.tokens, nano_usd=self.daily.nano_usd)
        return LedgerSpec(time_zone=self.time_zone, windows=(window,), prices=(PRICE,))
