"""Decides what a run has cost: all that its model requests settled for, those of agents nested in its tools included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from agentservice_api.budget import usd_string
from agentservice_runtime.ledger.interface import Spend


class Charge(NamedTuple):
    """One settled request."""

    spend: Spend
    is_priced: bool


@dataclass(kw_only=True, slots=True)
class Account:
    """The charges of one run. Requests on other threads add to it too, so it only ever appends."""

    charges: list[Charge] = field(default_factory=list[Charge])
    is_squeezed: bool = False
    """Whether a request had to do with a shorter answer than it wanted, because the budget had no more."""
    served_by: str | None = None
    """The model that took over, as the specification has it: a cheaper one, or a fallback. None: nobody had to."""

    @property
    def cost_usd(self) -> str | None:
        """US dollars as a decimal string; None when a request had no price."""
        nano = 0
        for spend, is_priced in self.charges:
            if not is_priced:
                return None
            nano += spend.nano_usd
        return usd_string(nano)
