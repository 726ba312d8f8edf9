"""Decides how a platform writes down its own prices: a ConfigMap, one key, YAML with a price for each model string.

    data:
      prices.yaml: |
        openai-chat:gpt-4o-mini: {inputPerMillionUSD: "0.15", outputPerMillionUSD: "0.60", cachedInputPerMillionUSD: "0.075"}
        vllm:llama-3.3-70b: {inputPerMillionUSD: "0", outputPerMillionUSD: "0"}

Quotes are free to leave out: every scalar is read as the text that stands there, so no price passes through a float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import ValidationError

from agentservice_api.budget.ledger import ModelPrice
from agentservice_api.names import short_hash
from agentservice_api.schema import camel
from agentservice_api.spec.model import Pricing

PRICES_KEY: Final = "prices.yaml"
"""The ConfigMap's key."""
MAX_PRICES: Final = 200
"""Each agent whose code may call any model carries all of them in its AgentLedger."""
SOURCE: Final = "price-book"

_MODEL: Final = re.compile(r"[a-z][a-z0-9-]*:\S+")
_FIELDS: Final = tuple(camel(name) for name in Pricing.model_fields)


class PriceBookError(ValueError):
    """The price book cannot be used. The text names the entry and the mend."""


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """Prices by model string."""

    prices: Mapping[str, Pricing]
    version: str
    """Changes when the ConfigMap's text does."""

    @classmethod
    def from_data(cls, data: Mapping[str, str]) -> PriceBook:
        """Read a ConfigMap's ``data``. Raises PriceBookError that names the first entry which cannot be used."""
        import yaml

        text = data.get(PRICES_KEY)
        if text is None:
            raise PriceBookError(f"the price book has no key {PRICES_KEY}")
        try:
            content: Any = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  makes nothing but texts, lists and maps
        except yaml.YAMLError as error:
            raise PriceBookError(f"{PRICES_KEY} is not YAML: {' '.join(str(error).split())[:200]}") from None
        if content in (None, ""):
            content = {}
        if not isinstance(content, dict):
            raise PriceBookError(f"{PRICES_KEY} must be a map from model strings to prices")
        entries = cast("dict[Any, Any]", content)
        if len(entries) > MAX_PRICES:
            raise PriceBookError(f"{PRICES_KEY} has {len(entries)} prices, at most {MAX_PRICES} are read")
        return cls(
            prices={str(model): _pricing(str(model), entry) for model, entry in entries.items()},
            version=short_hash(text.encode()),
        )


def model_price(model: str, pricing: Pricing, *, source: str) -> ModelPrice:
    """Return the price as an AgentLedger holds it. Its source tells the figures too: they are its version.

    So books say what was paid without any history of specifications, and an edit that leaves a price as it was leaves
    the ledger as it was.
    """
    figures = [pricing.input_per_million_usd, pricing.output_per_million_usd]
    if pricing.cached_input_per_million_usd is not None:
        figures.append(pricing.cached_input_per_million_usd)
    return ModelPrice(
        model=model,
        input_per_million_usd=pricing.input_per_million_usd,
        output_per_million_usd=pricing.output_per_million_usd,
        cached_input_per_million_usd=pricing.cached_input_per_million_usd,
        source=f"{source}/{':'.join(_shortest(figure) for figure in figures)}",
    )


def _pricing(model: str, entry: Any) -> Pricing:
    where = f"{PRICES_KEY}: {model[:80]}"
    if _MODEL.fullmatch(model) is None:
        raise PriceBookError(f"{where} is no model string: write provider:model, for instance openai-chat:gpt-4o-mini")
    if not isinstance(entry, dict):
        raise PriceBookError(f"{where} needs a map of {', '.join(_FIELDS)}")
    members = cast("dict[str, Any]", entry)
    for key in members:
        if key not in _FIELDS:
            raise PriceBookError(f"{where}.{key[:80]} is unknown: known are {', '.join(_FIELDS)}")
    try:
        return Pricing.model_validate(members)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise PriceBookError(
            f'{where}.{field} must be US dollars per million tokens as a decimal such as "0.15", at most 6 digits before '
            f"the point and 9 after it ({problem['msg']})"
        ) from None


def _shortest(figure: str) -> str:
    whole, _, fraction = figure.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole.lstrip('0') or '0'}{'.' if fraction else ''}{fraction}"
