"""Decides which prices are in force, those of the last price book that could be read among them, and which models have none."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from agentservice_api import AgentServiceSpec, Reason
from agentservice_api.budget import LedgerSpec, ModelPrice
from agentservice_api.budget.model_names import identity
from agentservice_api.budget.price_book import SOURCE, PriceBook, PriceBookError
from agentservice_api.budget.prices import Prices
from agentservice_api.budget.terms import ledger_spec, models
from agentservice_operator.manifest import Manifest
from agentservice_operator.rollout import Verdict

_KEPT: Final = 256
"""Different lists of prices whose look-ups are kept."""


class PlatformPrices:
    """The price book. ``config_map`` is the name of its ConfigMap; empty when the platform has none."""

    def __init__(self, config_map: str) -> None:
        self.config_map = config_map
        self.book: PriceBook | None = None
        """The last one that could be read."""
        self.problem = f"there is no ConfigMap {config_map}" if config_map else ""
        """Why the present one cannot be read. It has no figures of it, and ends without a full stop."""
        self._look_ups: dict[tuple[ModelPrice, ...], Prices] = {}

    def take(self, config_map: Manifest | None) -> bool:
        """Read the ConfigMap as it is now, None when it is gone. Return whether other prices are in force since."""
        before = self.book.version if self.book is not None else ""
        self.problem = ""
        try:
            if config_map is None:
                self.problem = f"there is no ConfigMap {self.config_map}"
            else:
                self.book = PriceBook.from_data(config_map.get("data") or {})
        except PriceBookError as error:
            self.problem = str(error)
        return self.book is not None and self.book.version != before

    def terms(self, spec: AgentServiceSpec, *, live: LedgerSpec | None) -> LedgerSpec:
        """Return the terms of a specification with a budget.

        ``live`` are those in force. While no price book could be read since the operator started, what they have of
        one stays: nobody has taken those prices back.
        """
        terms = ledger_spec(spec, price_book=self.book)
        if not self.config_map or self.book is not None or live is None:
            return terms
        known = {identity(price.model) for price in terms.prices}
        kept = [
            price
            for price in live.prices
            if price.source.startswith(f"{SOURCE}/") and identity(price.model) not in known
        ]
        prices = sorted((*terms.prices, *kept), key=lambda price: identity(price.model))
        return terms.model_copy(update={"prices": tuple(prices)})

    def resolved(self, spec: AgentServiceSpec, terms: LedgerSpec, *, now: datetime) -> Verdict:
        """Return the condition PricesResolved of a specification under ``terms``."""
        if terms.prices not in self._look_ups:
            if len(self._look_ups) >= _KEPT:
                self._look_ups.clear()
            self._look_ups[terms.prices] = Prices(terms.prices)
        prices = self._look_ups[terms.prices]
        hour = now.replace(minute=0, second=0, microsecond=0)  # a price of the day changes, that there is one does not
        named = models(spec)
        unknown = sorted(
            {model.name for model in named if prices.of_string(model.name, base_url=model.base_url, now=hour) is None}
        )
        if unknown:
            return _unknown(unknown, terms)
        message = "every model of the specification has a price" if named else "the specification names no model"
        return Verdict(status="True", reason=Reason.PRICED, message=message)


def _unknown(models: list[str], terms: LedgerSpec) -> Verdict:
    what = f"{', '.join(models)} {'has' if len(models) == 1 else 'have'} no price"
    mend = "set pricing beside the model, or have it written into the platform's price book"
    if not terms.limits_money:
        return Verdict(
            status="Unknown",
            reason=Reason.PRICE_UNKNOWN,
            message=f"{what}, which no limit needs: tokens are counted and dollars are not; to count them, {mend}",
        )
    so = (
        "requests are refused, because a Hard limit in USD could not hold"
        if terms.is_hard
        else ("its tokens alone are counted, and the limit in USD is not watched")
    )
    return Verdict(status="False", reason=Reason.PRICE_UNKNOWN, message=f"{what}: {so}; {mend}")


def trim_price_book(live: Manifest) -> Manifest:
    """Keep a ConfigMap's texts, and which object it is."""
    metadata: dict[str, Any] = live["metadata"]
    few = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": few, "data": live.get("data") or {}}
