"""What a request can cost at most, what it did cost, and whose price applies."""

import subprocess
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.usage import RequestUsage

from agentservice_api.budget import UNLIMITED, Amount, ModelPrice, nano_from_usd
from agentservice_api.budget.prices import Prices
from agentservice_api.budget.rates import FREE, Rates, TokenUsage, bands, flat

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BUILT_IN = Prices()


@dataclass(kw_only=True)
class Usage:
    """A usage with nothing but what a test says."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    output_audio_tokens: int = 0
    output_reasoning_tokens: int = 0


@st.composite
def usages(draw: st.DrawFn, *, most: int = 400_000) -> Usage:
    """Usages whose parts fit into their totals, as providers report them."""
    audio, cached_audio = draw(st.integers(0, most)), draw(st.integers(0, most))
    cached, written, longer = draw(st.integers(0, most)), draw(st.integers(0, most)), draw(st.integers(0, most))
    spoken, thought, rest = draw(st.integers(0, most)), draw(st.integers(0, most)), draw(st.integers(0, most))
    return Usage(
        input_tokens=audio + cached + written + longer + cached_audio + rest,
        cache_read_tokens=cached + cached_audio,
        cache_write_tokens=written + longer,
        cache_write_1h_tokens=longer,
        input_audio_tokens=audio + cached_audio,
        cache_audio_read_tokens=cached_audio,
        output_tokens=spoken + thought + rest,
        output_audio_tokens=spoken,
        output_reasoning_tokens=thought,
    )


def priced() -> list[tuple[str, str]]:
    """A model of each form that genai-prices' prices have, as (provider of pydantic-ai, model)."""
    sellers = {"openai": "openai", "anthropic": "anthropic", "google": "google", "aws": "bedrock", "x-ai": "xai"}
    found: dict[tuple[object, ...], tuple[str, str]] = {}
    for seller in get_snapshot().providers:
        for model in seller.models if seller.id in sellers else ():
            price = model.get_prices(NOW)
            tiered = any(hasattr(value, "tiers") for value in vars(price).values())
            provider = sellers[seller.id]
            if BUILT_IN.of(provider, model.id, base_url=None, now=NOW) is not None:
                found.setdefault((seller.id, tiered, *sorted(vars(price))), (provider, model.id))
    return sorted(found.values())


def rates_of(provider: str, model: str, *, base_url: str | None = None) -> Rates:
    found = BUILT_IN.of(provider, model, base_url=base_url, now=NOW)
    assert found is not None
    return found


RATES = st.sampled_from(priced()).map(lambda pair: rates_of(*pair)) | st.builds(
    lambda i, o, c: flat(source="spec", input_usd=str(i), output_usd=str(o), cached_input_usd=c and str(c)),
    st.decimals(0, 999_999, places=9),
    st.decimals(0, 999_999, places=9),
    st.none() | st.decimals(0, 999_999, places=9),
)


def test_there_are_many_forms_of_prices() -> None:
    assert len(priced()) >= 15


@settings(max_examples=400, deadline=None)
@given(RATES, usages())
def test_no_usage_costs_more_than_its_bound(rates: Rates, usage: Usage) -> None:
    bound = rates.bound(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    assert 0 <= rates.cost(usage) <= bound.nano_usd
    assert bound.tokens == usage.input_tokens + usage.output_tokens


@settings(max_examples=200, deadline=None)
@given(RATES, usages(), st.integers(0, 300_000), st.integers(0, 100_000))
def test_a_longer_input_or_output_never_has_a_lower_bound(
    rates: Rates, usage: Usage, more_input: int, more_output: int
) -> None:
    less = rates.bound(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    more = rates.bound(input_tokens=usage.input_tokens + more_input, output_tokens=usage.output_tokens + more_output)
    assert less.fits(more)


@settings(max_examples=400, deadline=None)
@given(RATES, st.integers(0, 500_000), st.integers(0, 10**6), st.integers(0, 10**10))
def test_the_largest_cap_fits_and_one_token_more_does_not(rates: Rates, inputs: int, tokens: int, nano: int) -> None:
    amount = Amount(tokens, nano)
    cap = rates.output_cap(input_tokens=inputs, amount=amount)
    if cap is None:
        assert not rates.bound(input_tokens=inputs, output_tokens=0).fits(amount)
    else:
        assert rates.bound(input_tokens=inputs, output_tokens=cap).fits(amount)
        assert not rates.bound(input_tokens=inputs, output_tokens=cap + 1).fits(amount)


def test_what_costs_nothing_is_capped_by_tokens_alone() -> None:
    assert FREE.output_cap(input_tokens=10, amount=Amount(15, 0)) == 5
    assert FREE.output_cap(input_tokens=10, amount=UNLIMITED) == UNLIMITED.tokens - 10


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(priced()), usages())
def test_a_cost_is_what_genai_prices_says_rounded_up(model: tuple[str, str], usage: Usage) -> None:
    provider, name = model
    if "image" in name or "omni" in name or "live" in name or "realtime" in name:
        return  # dearer here: a usage does not say how many of its tokens were images
    said = calc_price(
        usage,
        name,
        provider_id={"bedrock": "aws", "xai": "x-ai"}.get(provider, provider),
        genai_request_timestamp=NOW,
    ).total_price
    assert rates_of(provider, name).cost(usage) == nano_from_usd(said)


def test_the_usage_that_pydantic_ai_reports_is_one_of_ours() -> None:
    assert set(TokenUsage.__annotations__) <= {field.name for field in fields(RequestUsage)}
    usage = RequestUsage(input_tokens=1_000_000, cache_read_tokens=400_000, output_tokens=10)
    cached = flat(source="s", input_usd="1", output_usd="2", cached_input_usd="0.5")
    assert cached.cost(usage) == 600_000_000 + 200_000_000 + 20_000


def test_a_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    cheap = flat(source="s", input_usd="0.0001", output_usd="0", cached_input_usd=None)
    assert cheap.cost(Usage(input_tokens=1)) == 1
    assert cheap.bound(input_tokens=1, output_tokens=9).nano_usd == 1


def test_a_long_context_costs_its_tier_for_all_tokens_and_is_bounded_by_it() -> None:
    rates = rates_of("google", "gemini-2.5-pro")
    assert rates.cost(Usage(input_tokens=200_000)) == nano_from_usd(Decimal("1.25") / 5)
    assert rates.cost(Usage(input_tokens=200_001)) == nano_from_usd(Decimal("2.5") * 200_001 / 1_000_000)
    assert rates.bound(input_tokens=200_001, output_tokens=100).nano_usd > 2 * 250_000_000


def test_a_bound_holds_too_where_a_longer_context_is_cheaper() -> None:
    cheaper = bands({0: {"input_tokens": 9_000_000, "output_tokens": 0}, 100: {"input_tokens": 1, "output_tokens": 0}})
    rates = Rates(source="s", bands=cheaper)
    assert rates.bound(input_tokens=101, output_tokens=0).nano_usd >= rates.cost(Usage(input_tokens=100)) == 900


def test_writing_to_the_cache_for_an_hour_is_the_dearest_input_of_a_claude() -> None:
    rates = rates_of("anthropic", "claude-sonnet-4-5")
    written = Usage(input_tokens=1000, cache_write_tokens=1000, cache_write_1h_tokens=1000)
    assert rates.cost(written) == rates.bound(input_tokens=1000, output_tokens=0).nano_usd == 6_000_000
    assert rates.cost(Usage(input_tokens=1000)) == 3_000_000


def test_a_usage_that_contradicts_itself_costs_what_it_could_at_most() -> None:
    rates = rates_of("openai", "gpt-4o")
    wrong = Usage(input_tokens=10, cache_read_tokens=1000, output_tokens=5, output_reasoning_tokens=50)
    assert rates.cost(wrong) == rates.bound(input_tokens=1000, output_tokens=50).nano_usd


@pytest.mark.parametrize(
    ("provider", "base_url"),
    [
        ("openai", None),
        ("openai-chat", None),
        ("openai-responses", "https://api.openai.com/v1/"),
        ("openai", "https://API.openai.com:443/v1"),
        ("azure", "https://ours.openai.azure.com/openai/v1"),
    ],
)
def test_a_model_at_its_providers_address_has_its_price(provider: str, base_url: str | None) -> None:
    rates = BUILT_IN.of(provider, "gpt-4o", base_url=base_url, now=NOW)
    assert rates is not None
    assert rates.cost(Usage(input_tokens=1_000_000)) == 2_500_000_000
    assert rates.source.startswith("genai-prices/")


@pytest.mark.parametrize(
    "base_url",
    [
        "http://vllm.models.svc:8000/v1",
        "https://litellm.example.com",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://api.openai.com.example.com/v1",
        "https://api.openai.community/v1",
        "https://example.com/https://api.openai.com",
        "https://proxy/x.openai.azure.com",
        "https://user@api.openai.com@example.com/v1",
        "https://example.com/x.googleapis.com",
        "https://api.moonshot.example.com",
        "https://[broken",
        "nonsense",
    ],
)
def test_a_model_on_another_server_has_no_price_whatever_its_name(base_url: str) -> None:
    assert BUILT_IN.of("openai", "gpt-4o", base_url=base_url, now=NOW) is None
    assert BUILT_IN.of_string("openai-chat:gpt-4o", base_url=base_url, now=NOW) is None


@pytest.mark.parametrize(
    "model",
    ["openai:gpt-99-of-tomorrow", "vllm:gpt-4o", "ollama:llama3", "github:gpt-4o", "nonsense", "", "openai:whisper-1"],
)
def test_what_nobody_has_a_price_for_has_none(model: str) -> None:
    assert BUILT_IN.of_string(model, base_url=None, now=NOW) is None


@pytest.mark.parametrize("model", ["test", "function:echo"])
def test_a_model_of_the_process_itself_costs_nothing(model: str) -> None:
    assert BUILT_IN.of_string(model, base_url=None, now=NOW) is FREE


OWN = ModelPrice(model="openai-chat:gpt-4o", input_per_million_usd="7", output_per_million_usd="8", source="spec/7:8")


@pytest.mark.parametrize("base_url", [None, "http://vllm.models.svc/v1", "https://api.openai.com/v1"])
@pytest.mark.parametrize("provider", ["openai", "openai-chat", "openai-responses"])
def test_an_own_price_comes_first_and_holds_at_any_address(provider: str, base_url: str | None) -> None:
    rates = Prices([OWN]).of(provider, "gpt-4o", base_url=base_url, now=NOW)
    assert rates is not None
    assert rates.source == "spec/7:8"
    assert rates.bound(input_tokens=1_000_000, output_tokens=1_000_000).nano_usd == 15_000_000_000


def test_an_own_price_is_for_its_model_alone() -> None:
    assert Prices([OWN]).of("openai", "gpt-4o-2", base_url="http://vllm/v1", now=NOW) is None
    found = Prices([OWN]).of("openai", "gpt-4o-mini", base_url=None, now=NOW)
    assert found is not None
    assert found.source.startswith("genai-prices/")


def test_cached_input_without_a_price_costs_as_any_input() -> None:
    rates = Prices([OWN]).of("openai", "gpt-4o", base_url=None, now=NOW)
    assert rates is not None
    assert rates.cost(Usage(input_tokens=1000, cache_read_tokens=1000)) == 7_000_000


def test_a_dearer_service_tier_has_its_own_price() -> None:
    standard = rates_of("openai", "gpt-5.4")
    dear = BUILT_IN.of("openai", "gpt-5.4", base_url=None, now=NOW, context={"service_tier": "priority", "other": [1]})
    assert dear is not None
    usage = Usage(input_tokens=1000, output_tokens=1000)
    assert dear.cost(usage) > standard.cost(usage)
    assert BUILT_IN.of("openai", "gpt-5.4", base_url=None, now=NOW, context={"service_tier": None}) == standard


def test_a_price_of_the_day_is_bounded_by_the_dearer_one_that_begins_soon() -> None:
    usage = Usage(input_tokens=1_000_000)
    day = [NOW.replace(hour=0) + timedelta(minutes=15 * quarter) for quarter in range(96)]
    found = [BUILT_IN.of("deepseek", "deepseek-flash", base_url=None, now=moment) for moment in day]
    costs = [rates.cost(usage) for rates in found if rates is not None]
    assert len(costs) == len(day)
    assert len(set(costs)) == 2
    for index, rates in enumerate(found[:-4]):
        assert rates is not None
        assert rates.bound(input_tokens=1_000_000, output_tokens=0).nano_usd >= costs[index + 4]


def test_a_process_without_a_budget_does_not_import_the_price_data() -> None:
    code = (
        "import sys, agentservice_api.budget.prices as p, agentservice_api.semantics, agentservice_api.budget.terms;"
        "p.Prices().of('test', '', base_url=None, now=None);"
        "print(any(name.startswith('genai_prices') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
