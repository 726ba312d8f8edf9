"""Decides which rates a model request is reserved and settled at: those in force when it is reserved, for its own bill too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_ai.models import Model

from agentservice_api.budget import LedgerSpec, ModelPrice
from agentservice_api.budget.prices import Prices
from agentservice_api.budget.rates import Rates

_MINUTE: Final = 60
"""Prices of the day begin and end on a minute."""
_MAX_MODELS: Final = 256

_Known = tuple[Model[Any], Prices, int, Rates | None]


class Pricing:
    """The prices of the terms that were seen last."""

    def __init__(self) -> None:
        self._terms: LedgerSpec | None = None
        self.limits_money = False
        """Whether those terms have a limit in USD."""
        self._overrides: tuple[ModelPrice, ...] = ()
        self._prices = Prices()
        self._known: dict[int, _Known] = {}

    def in_force(self, terms: LedgerSpec) -> Prices:
        """Return the prices under ``terms``."""
        if terms is not self._terms:
            self._terms, self.limits_money = terms, terms.limits_money
        if terms.prices is not self._overrides:
            if terms.prices != self._overrides:
                self._prices = Prices(terms.prices)
            self._overrides = terms.prices
        return self._prices

    def rates_of(self, model: Model[Any], prices: Prices) -> Rates | None:
        """Return what ``model`` costs now, None when nobody knows."""
        minute = int(time.time()) // _MINUTE
        known = self._known.get(id(model))
        # the model is kept beside its rates, so its id is not given to another one
        if known is not None and known[0] is model and known[1] is prices and known[2] == minute:
            return known[3]
        if len(self._known) >= _MAX_MODELS:
            self._known.clear()
        rates = _rates(model, prices, {})
        self._known[id(model)] = (model, prices, minute, rates)
        return rates


def rates_as_served(model: Model[Any], prices: Prices, details: Mapping[str, object]) -> Rates | None:
    """Return what an answer cost whose ``details`` tell in which tier it was served."""
    return _rates(model, prices, details)


def _rates(model: Model[Any], prices: Prices, context: Mapping[str, object]) -> Rates | None:
    return prices.of(
        model.system, model.model_name, base_url=model.base_url or None, now=datetime.now(UTC), context=context
    )
