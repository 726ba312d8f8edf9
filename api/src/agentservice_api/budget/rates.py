"""Decides what tokens cost at given rates: before a request the most that it can cost, after it what it did cost.

Whole nano-USD throughout, rounded up. A rate is nano-USD per million tokens: a price with nine decimals is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Final, Protocol

from agentservice_api.budget.amount import MAX_UNITS, NANO_PER_USD, Amount

PER: Final = 1_000_000
"""Tokens that a rate is for."""


class TokenUsage(Protocol):
    """What a provider reports of one request; pydantic-ai's `RequestUsage` is one. Totals include their parts."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    cache_audio_read_tokens: int
    output_audio_tokens: int
    output_reasoning_tokens: int


PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": (
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "input_audio_tokens",
        "cache_audio_read_tokens",
    ),
    "cache_read_tokens": ("cache_audio_read_tokens",),
    "cache_write_tokens": ("cache_write_1h_tokens",),
    "input_audio_tokens": ("cache_audio_read_tokens",),
    "output_tokens": ("output_audio_tokens", "output_reasoning_tokens"),
}
"""The fields of a usage that other fields are parts of, at any depth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """The rates above so many input tokens: a long-context tier applies to all tokens of its request."""

    above: int
    weights: tuple[tuple[str, int], ...]
    """What one more token of each reported field adds; may be negative, as for a part that is cheaper than its total."""
    dearest_input: int
    """The dearest rate of any kind of input, here or in a band below."""
    dearest_output: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What one model costs. Made once, asked at every request."""

    source: str
    """Where the rates stand and their version; goes into the books with what was paid."""
    bands: tuple[Band, ...]
    """From above 0 on."""
    per_request: int = 0
    """Nano-USD."""

    def bound(self, *, input_tokens: int, output_tokens: int) -> Amount:
        """Return the most that a request can cost which has no more input than this and is capped at this output."""
        band = self._band(input_tokens)
        nano = _up(input_tokens * band.dearest_input + output_tokens * band.dearest_output) + self.per_request
        return Amount(input_tokens + output_tokens, nano)

    def output_cap(self, *, input_tokens: int, amount: Amount) -> int | None:
        """Return the largest cap of output tokens with which `bound` is at most ``amount``; None: not even 0 is."""
        band = self._band(input_tokens)
        tokens = amount.tokens - input_tokens
        left = (amount.nano_usd - self.per_request) * PER - input_tokens * band.dearest_input
        if tokens < 0 or left < 0:
            return None
        return min(tokens, left // band.dearest_output if band.dearest_output else MAX_UNITS)

    def cost(self, usage: TokenUsage) -> int:
        """Return nano-USD, rounded up. A usage whose parts exceed their totals costs what it could have at most."""
        if not _is_consistent(usage):
            inputs = max(
                usage.input_tokens, usage.cache_read_tokens + usage.cache_write_tokens, usage.input_audio_tokens
            )
            outputs = max(usage.output_tokens, usage.output_reasoning_tokens, usage.output_audio_tokens)
            return self.bound(input_tokens=inputs, output_tokens=outputs).nano_usd
        total = 0
        for field, weight in self._band(usage.input_tokens).weights:
            total += weight * getattr(usage, field)
        return _up(total) + self.per_request

    def or_dearer(self, other: Rates) -> Rates:
        """Return these, with a bound that holds for ``other`` too."""
        most_input = max(band.dearest_input for band in other.bands)
        most_output = max(band.dearest_output for band in other.bands)
        return replace(
            self,
            bands=tuple(
                replace(
                    band,
                    dearest_input=max(band.dearest_input, most_input),
                    dearest_output=max(band.dearest_output, most_output),
                )
                for band in self.bands
            ),
            per_request=max(self.per_request, other.per_request),
        )

    def _band(self, input_tokens: int) -> Band:
        for band in reversed(self.bands):
            if input_tokens > band.above:
                return band
        return self.bands[0]


FREE: Final = Rates(source="free", bands=(Band(above=0, weights=(), dearest_input=0, dearest_output=0),))
"""Models of the process itself, for which nobody sends a bill."""


def flat(*, source: str, input_usd: str, output_usd: str, cached_input_usd: str | None) -> Rates:
    """Return the rates of a price in USD per million tokens; without a price of cached input it costs as any input."""
    into, out = rate(Decimal(input_usd)), rate(Decimal(output_usd))
    cached = into if cached_input_usd is None else rate(Decimal(cached_input_usd))
    return Rates(
        source=source, bands=bands({0: {"input_tokens": into, "output_tokens": out, "cache_read_tokens": cached}})
    )


def bands(found: Mapping[int, Mapping[str, int]]) -> tuple[Band, ...]:
    """Return the bands from the rate of each priced field, by the input tokens above which they hold."""
    made: list[Band] = []
    inputs = outputs = 0
    for above, rates in sorted(found.items()):
        # a bound on the input does not say that the input is that long: a band below may be the one that applies
        outputs = max(outputs, *(rate for field, rate in rates.items() if field.startswith("output")))
        inputs = max(inputs, *(rate for field, rate in rates.items() if not field.startswith("output")))
        kept = tuple((field, weight) for field, weight in spread(rates).items() if weight)
        made.append(Band(above=above, weights=kept, dearest_input=inputs, dearest_output=outputs))
    return tuple(made)


def rate(usd_per_million: Decimal) -> int:
    """Return nano-USD per million tokens, rounded up."""
    return int((usd_per_million * NANO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def spread(rates: Mapping[str, int]) -> dict[str, int]:
    """Return what one more token of each field adds, from the rate of each priced field.

    A field's own rate is for what none of its priced parts accounts for.
    """
    alone: dict[str, dict[str, int]] = {}
    weights = dict.fromkeys(rates, 0)
    for field in sorted(rates, key=lambda field: len(PARTS.get(field, ()))):  # parts before their totals
        counts = {field: 1}
        for part in PARTS.get(field, ()):
            for counted, times in alone.get(part, {}).items():
                counts[counted] = counts.get(counted, 0) - times
        alone[field] = counts
        for counted, times in counts.items():
            weights[counted] += rates[field] * times
    return weights


def _is_consistent(usage: TokenUsage) -> bool:
    return (
        usage.input_tokens >= usage.cache_read_tokens + usage.cache_write_tokens
        and usage.cache_write_tokens >= usage.cache_write_1h_tokens
        and usage.input_tokens >= usage.input_audio_tokens >= usage.cache_audio_read_tokens
        and usage.cache_read_tokens >= usage.cache_audio_read_tokens
        and usage.output_tokens >= usage.output_reasoning_tokens
        and usage.output_tokens >= usage.output_audio_tokens
    )


def _up(millionths: int) -> int:
    return -(-millionths // PER)
