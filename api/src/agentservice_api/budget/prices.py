"""Decides which rates apply to a model: the ledger's own prices first, then genai-prices' data, else none: never a guess.

A price belongs to whoever sends the bill, and that is told by the address a request goes to. So a model called gpt-4o on
somebody's own server is not priced as OpenAI's; only a price that its owner wrote down applies to it.
genai-prices (https://github.com/pydantic/genai-prices) is imported at the first question, so that a process without a
budget never pays for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agentservice_api.budget.ledger import ModelPrice
from agentservice_api.budget.model_names import identity
from agentservice_api.budget.rates import FREE, Rates, bands, flat, rate

if TYPE_CHECKING:
    from genai_prices import types as genai
    from genai_prices.data_snapshot import DataSnapshot

LOCAL: Final = frozenset({"test", "function"})
"""pydantic-ai's models that run in the process itself."""

_SELLERS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock": "aws",
    "bedrock-mantle": "aws",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google": "google",
    "google-cloud": "google",
    "groq": "groq",
    "meta": "meta",
    "mistral": "mistral",
    "moonshotai": "moonshotai",
    "openai": "openai",
    "openrouter": "openrouter",
    "ovhcloud": "ovhcloud",
    "together": "together",
    "xai": "x-ai",
    "zai": "zai",
}
"""pydantic-ai's providers to genai-prices', for a model whose address is the provider's own."""
_FIELDS: Final[Mapping[str, str]] = {
    "input_mtok": "input_tokens",
    "output_mtok": "output_tokens",
    "cache_read_mtok": "cache_read_tokens",
    "cache_write_mtok": "cache_write_tokens",
    "cache_write_1h_mtok": "cache_write_1h_tokens",
    "input_audio_mtok": "input_audio_tokens",
    "cache_audio_read_mtok": "cache_audio_read_tokens",
    "output_audio_mtok": "output_audio_tokens",
    "output_reasoning_mtok": "output_reasoning_tokens",
}
"""Prices of what a usage reports."""
_BY_THE_CALL: Final = frozenset(
    {"web_searches_kcount", "social_searches_kcount", "storage_searches_kcount", "code_executions_kcount"}
)
"""Prices of a provider's own tools, which a Hard limit in USD keeps off."""
_PATHS: Final = ("cloudflare", "huggingface")
"""Providers that are told by the path of an address too; their patterns hold the host in full."""
_HORIZON: Final = timedelta(hours=1)
"""A request may run so long: a price of the day that begins meanwhile must not break its bound."""
_REMEMBERED: Final = 512


class Prices:
    """The prices in force: those of an AgentLedger's spec, and the built-in ones. Make a new one when the spec changes."""

    def __init__(self, overrides: Iterable[ModelPrice] = ()) -> None:
        self._own = {identity(price.model): _own(price) for price in overrides}
        self._known: dict[tuple[object, ...], Rates | None] = {}
        self._snapshot: DataSnapshot | None = None

    def of(
        self,
        provider: str,
        model: str,
        *,
        base_url: str | None,
        now: datetime,
        context: Mapping[str, object] | None = None,
    ) -> Rates | None:
        """Return what ``model`` costs at ``now``, or None when nobody knows.

        ``provider`` is pydantic-ai's name of it (`Model.system`, or a model string's prefix), ``base_url`` the address
        that requests go to, None for the provider's own. ``context`` are facts about the request that some prices depend
        on, such as service_tier: as asked for when it is bounded, `ModelResponse.provider_details` when it is settled.
        """
        name = identity(f"{provider}:{model}")
        own = self._own.get(name)
        if own is not None:
            return own
        if provider in LOCAL:
            return FREE
        return self._built_in(name.partition(":")[0], model, base_url, now, context or {})

    def of_string(self, model: str, *, base_url: str | None, now: datetime) -> Rates | None:
        """Return what the model of a model string costs at ``now``, or None when nobody knows."""
        provider, _, name = model.partition(":")
        return self.of(provider, name, base_url=base_url or None, now=now)

    def _built_in(
        self, provider: str, model: str, base_url: str | None, now: datetime, context: Mapping[str, object]
    ) -> Rates | None:
        from genai_prices.data_snapshot import get_snapshot

        snapshot = get_snapshot()
        if snapshot is not self._snapshot or len(self._known) >= _REMEMBERED:
            self._snapshot = snapshot
            self._known.clear()
        # prices of the day begin and end on a minute, prices of a date at midnight
        key = (provider, model, base_url, int(now.timestamp()) // 60, *_tiers(context))
        if key not in self._known:
            self._known[key] = _find(snapshot, provider, model, base_url, now, dict(_tiers(context)))
        return self._known[key]


def _own(price: ModelPrice) -> Rates:
    return flat(
        source=price.source,
        input_usd=price.input_per_million_usd,
        output_usd=price.output_per_million_usd,
        cached_input_usd=price.cached_input_per_million_usd,
    )


def _tiers(context: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key in ("service_tier", "speed", "processing", "route", "search_type"):
        value = context.get(key)
        if isinstance(value, str):
            yield key, value


def _find(
    snapshot: DataSnapshot,
    provider: str,
    model: str,
    base_url: str | None,
    now: datetime,
    context: Mapping[str, str],
) -> Rates | None:
    seller = _seller(snapshot.providers, provider, base_url)
    if seller is None:
        return None
    found = seller.find_model(model, all_providers=snapshot.providers)
    if found is None:
        return None
    source = _source(snapshot)
    rates = _rates(found.get_prices(now, context), source)
    later = _rates(found.get_prices(now + _HORIZON, context), source)
    if rates is None or later is None:
        return None
    return rates if later == rates else rates.or_dearer(later)


def _seller(providers: list[genai.Provider], provider: str, base_url: str | None) -> genai.Provider | None:
    if base_url is None:
        wanted = _SELLERS.get(provider)
        return next((seller for seller in providers if seller.id == wanted), None)
    return next((seller for seller in providers if _sells_at(seller, base_url)), None)


def _sells_at(seller: genai.Provider, base_url: str) -> bool:
    try:
        parts = urlsplit(base_url)
        host = (parts.hostname or "").lower()
        standard = parts.port in (None, 443)
    except ValueError:
        return False
    if parts.scheme != "https" or not standard:
        return False
    # The patterns are made to recognise honest addresses, by their beginning. Here a foreign one must not pass as a
    # provider's: the pattern has to account for the whole host.
    origin = f"https://{host}"
    match = re.match(seller.api_pattern, origin)
    if match is not None:
        rest = origin[match.end() :]
        return not rest or (match[0].endswith(".") and rest.isalpha())
    return seller.id.startswith(_PATHS) and re.match(seller.api_pattern, f"{origin}{parts.path}") is not None


def _source(snapshot: DataSnapshot) -> str:
    import genai_prices

    updated = f"+{snapshot.timestamp:%Y%m%d}" if snapshot.from_auto_update else ""
    return f"genai-prices/{genai_prices.__version__}{updated}"


def _rates(price: genai.ModelPrice, source: str) -> Rates | None:
    """Return the rates of genai-prices' price; None where it is not complete, or not by tokens alone."""
    priced = {key: value for key, value in vars(price).items() if value is not None and not key.startswith("_")}
    per_request = priced.pop("requests_kcount", None)
    tokens = {key: value for key, value in priced.items() if key.endswith("_mtok")}
    if not {"input_mtok", "output_mtok"} <= tokens.keys() or not priced.keys() - tokens.keys() <= _BY_THE_CALL:
        return None
    if per_request is not None and not isinstance(per_request, Decimal):
        return None
    starts = {0, *(tier.start for value in tokens.values() for tier in getattr(value, "tiers", ()))}
    return Rates(
        source=source,
        bands=bands({above: _fields(tokens, above) for above in starts}),
        per_request=0 if per_request is None else -(-rate(per_request) // 1000),
    )


def _fields(tokens: Mapping[str, Decimal | genai.TieredPrices], above: int) -> dict[str, int]:
    found = {_FIELDS[key]: _at(value, above) for key, value in tokens.items() if key in _FIELDS}
    for key, value in tokens.items():
        # images, video, citations: a usage does not say how many, so all of the total counts as the dearer of both
        if key not in _FIELDS:
            total = _total(key)
            total = total if total in found else "input_tokens"
            found[total] = max(found[total], _at(value, above))
    return found


def _total(key: str) -> str:
    if key.startswith("output"):
        return "output_tokens"
    if key.startswith("cache"):
        return "cache_read_tokens" if "read" in key else "cache_write_tokens"
    return "input_tokens"


def _at(value: Decimal | genai.TieredPrices, above: int) -> int:
    if isinstance(value, Decimal):
        return rate(value)
    price = value.base
    for tier in value.tiers:
        if tier.start <= above:
            price = tier.price
    return rate(price)
