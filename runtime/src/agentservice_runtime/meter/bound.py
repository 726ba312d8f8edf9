"""Decides the most that a model request can cost before it is sent, and whether that can be told at all."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from agentservice_api.budget import Amount, LedgerSpec
from agentservice_api.budget.prices import Prices
from agentservice_api.budget.rates import Rates
from agentservice_runtime.logs import LOGGER
from agentservice_runtime.meter.account import Account
from agentservice_runtime.meter.calibration import Calibration, Factors
from agentservice_runtime.meter.pricing import Pricing
from agentservice_runtime.meter.refusals import unbounded, unpriced
from agentservice_runtime.meter.settings import (
    Traits,
    billed_tool,
    model_profile,
    output_cap,
    refused_setting,
    thinks,
    traits_of,
)
from agentservice_runtime.meter.size import Sizer

MIN_OUTPUT: Final = 256
"""Near a limit the output cap shrinks to so many tokens, not further: a shorter answer is of no use."""
_MAX_PROFILES: Final = 256


class Order(NamedTuple):
    """A model request as it was asked for."""

    model: Model[Any]
    messages: list[ModelMessage]
    settings: ModelSettings | None
    parameters: ModelRequestParameters
    account: Account | None
    """Of the run that pays for it."""


class Bounded(NamedTuple):
    """What is known of the cost of an order."""

    model_id: str
    prices: Prices
    """Those in force now: the request is settled at them too."""
    rates: Rates | None
    """None where nobody knows the price; then money is not counted."""
    input_tokens: int
    """At most."""
    output_cap: int
    """What is asked for."""
    least_output: int
    """The smallest cap that is of use."""
    factors: Factors
    limits_money: bool
    """Whether a limit in USD holds."""

    def amount(self, output: int) -> Amount:
        """Return the most that the request costs with an output cap."""
        return worth(self.rates, self.input_tokens, self.output_tokens(output))

    def output_tokens(self, output: int) -> int:
        """Return the most that a provider bills under an output cap."""
        return _raised(output, self.factors.output)

    def cap_within(self, granted: Amount) -> int:
        """Return the largest output cap whose cost is at most ``granted``; that of `least_output` is."""
        return _largest(self.least_output, self.output_cap, lambda output: self.amount(output).fits(granted))


class Bounder:
    """Bounds requests. It learns from bills that were larger than their bounds."""

    def __init__(self) -> None:
        self.pricing = Pricing()
        self.calibration = Calibration()
        self._sizer = Sizer()
        self._traits: dict[int, tuple[Mapping[str, Any], Traits]] = {}
        self._told: set[str] = set()
        self._logger = logging.getLogger(f"{LOGGER}.budget")

    def bound(self, order: Order, terms: LedgerSpec) -> Bounded:
        """Return the bound of ``order``. Raises Refused where a Hard limit could not hold."""
        model = order.model
        own: Any = model.settings
        settings = cast("dict[str, Any]", {**(own or {}), **(order.settings or {})})
        size = self._sizer.measure(order.messages, order.parameters, system=model.system)
        if terms.is_hard:
            _refuse_unbounded(order, settings, terms, size.unbounded)
        model_id = model.model_id
        prices = self.pricing.in_force(terms)
        rates = self.pricing.rates_of(model, prices)
        if rates is None:
            self._unpriced(model_id, terms)
        factors = self.calibration.factors(model_id)
        traits = self._traits_of(model)
        is_thinking = thinks(traits, settings, order.parameters)
        cap = output_cap(traits, settings, thinks=is_thinking)
        return Bounded(
            model_id=model_id,
            prices=prices,
            rates=rates,
            input_tokens=_raised(size.tokens, factors.input),
            output_cap=cap,
            # an answer that was thought about is of use only with room for the thoughts
            least_output=cap if is_thinking else min(cap, MIN_OUTPUT),
            factors=factors,
            limits_money=self.pricing.limits_money,
        )

    def _traits_of(self, model: Model[Any]) -> Traits:
        profile = model_profile(model)
        known = self._traits.get(id(profile))
        # the profile is kept beside what is known of it, so its id is not given to another one
        if known is not None and known[0] is profile:
            return known[1]
        if len(self._traits) >= _MAX_PROFILES:
            self._traits.clear()
        found = traits_of(profile)
        self._traits[id(profile)] = (profile, found)
        return found

    def _unpriced(self, model_id: str, terms: LedgerSpec) -> None:
        if terms.is_hard and terms.limits_money:
            raise unpriced(model_id)
        if model_id not in self._told:
            self._told.add(model_id)
            self._logger.warning(
                "the model %s has no price: its tokens are counted, its cost is not. Set spec.model.pricing", model_id
            )


def worth(rates: Rates | None, input_tokens: int, output_tokens: int) -> Amount:
    """Return the most that so many tokens can cost."""
    if rates is None:
        return Amount(input_tokens + output_tokens, 0)
    return rates.bound(input_tokens=input_tokens, output_tokens=output_tokens)


def capped(order: Order, *, cap: int, is_hard: bool) -> ModelSettings:
    """Return the settings that the request is sent with. Only a Hard limit sets a cap where nobody asked for one."""
    model = order.model
    settings: dict[str, Any] = dict(order.settings or {})
    if is_hard or "max_tokens" in settings or "max_tokens" in (model.settings or {}):
        settings["max_tokens"] = cap
    if "max_retries" not in model.unsupported_settings:
        settings["max_retries"] = 0  # each attempt is a reservation of its own
    return cast("ModelSettings", settings)


def _refuse_unbounded(order: Order, settings: dict[str, Any], terms: LedgerSpec, content: str | None) -> None:
    found = refused_setting(settings) or content
    if found is None and "max_tokens" in order.model.unsupported_settings:
        found = "a model that takes no output cap"
    if found is None and order.parameters.native_tools and terms.limits_money:
        tool = billed_tool(order.parameters)
        found = None if tool is None else f"the provider's own tool {tool.kind}, which it bills by the call"
    if found is not None:
        raise unbounded(found)


def _raised(tokens: int, factor: float) -> int:
    return tokens if factor == 1 else math.ceil(tokens * factor)


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number in [low, high] that fits; ``low`` is known to."""
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
