"""The terms of a budget: limits, zone, enforcement and prices as an AgentLedger's spec holds them."""

from typing import Any

import pytest

from agentservice_api.budget import UNLIMITED, Enforcement
from agentservice_api.budget.price_book import PriceBook, PriceBookError
from agentservice_api.budget.terms import ledger_spec
from agentservice_api.spec import AgentServiceSpec

OWN = {"inputPerMillionUSD": "0.150", "outputPerMillionUSD": "0.60", "cachedInputPerMillionUSD": "0.0750"}
BOOK = PriceBook.from_data(
    {
        "prices.yaml": """
openai:gpt-4o-mini: {inputPerMillionUSD: 9, outputPerMillionUSD: "9.5"}
vllm:llama: {inputPerMillionUSD: 0.10, outputPerMillionUSD: 00.20, cachedInputPerMillionUSD: 0}
"""
    }
)


def spec(budget: dict[str, Any], *, agent: dict[str, Any] | None = None, **model: Any) -> AgentServiceSpec:
    return AgentServiceSpec.model_validate(
        {
            "agent": agent or {"instructions": "x"},
            "model": {"name": "openai-chat:gpt-4o-mini", **model},
            "budget": budget,
        }
    )


def test_limits_become_whole_units_and_an_absent_one_is_unlimited() -> None:
    terms = ledger_spec(
        spec({"daily": {"costUSD": "25.000000001"}, "monthly": {"tokens": 0}, "timeZone": "Asia/Tokyo"}),
        price_book=None,
    )
    assert terms.limit("daily").nano_usd == 25_000_000_001
    assert terms.limit("daily").tokens == UNLIMITED.tokens
    assert terms.limit("monthly").tokens == 0
    assert (terms.time_zone, terms.enforcement, terms.prices) == ("Asia/Tokyo", Enforcement.HARD, ())


def test_there_are_no_terms_without_a_budget() -> None:
    plain = AgentServiceSpec.model_validate({"agent": {"instructions": "x"}, "model": {"name": "test"}})
    with pytest.raises(ValueError, match="budget is not set"):
        ledger_spec(plain, price_book=None)


def test_the_price_of_the_specification_wins_over_the_book_and_says_its_figures() -> None:
    degrade = {
        "atPercent": 90,
        "model": {"name": "openai-chat:gpt-4o-nano", "pricing": {**OWN, "inputPerMillionUSD": "0"}},
    }
    terms = ledger_spec(spec({"daily": {"tokens": 1}, "degrade": degrade}, pricing=OWN), price_book=BOOK)
    assert {price.model: price.source for price in terms.prices} == {
        "openai-chat:gpt-4o-mini": "spec/0.15:0.6:0.075",
        "openai-chat:gpt-4o-nano": "spec/0:0.6:0.075",
    }


def test_a_declared_agent_carries_the_prices_of_its_own_models_alone() -> None:
    terms = ledger_spec(spec({"daily": {"tokens": 1}}), price_book=BOOK)
    assert [(price.model, price.source) for price in terms.prices] == [("openai:gpt-4o-mini", "price-book/9:9.5")]


@pytest.mark.parametrize("agent", [{"entrypoint": "a:b"}, {"instructions": "x", "tools": ["a:b"]}])
def test_an_agent_with_code_of_its_own_may_call_any_model_so_it_carries_the_whole_book(agent: dict[str, Any]) -> None:
    terms = ledger_spec(spec({"daily": {"tokens": 1}}, agent=agent, pricing=OWN), price_book=BOOK)
    assert {price.model: price.source for price in terms.prices} == {
        "openai-chat:gpt-4o-mini": "spec/0.15:0.6:0.075",
        "vllm:llama": "price-book/0.1:0.2:0",
    }


def test_terms_stay_equal_when_something_else_changes_or_a_price_is_written_otherwise() -> None:
    before = ledger_spec(spec({"daily": {"costUSD": "1"}}, pricing=OWN), price_book=None)
    after = spec({"daily": {"costUSD": "1.00"}, "alertAtPercent": [10]}, pricing=OWN)
    after = after.model_copy(update={"replicas": 7})
    assert ledger_spec(after, price_book=None) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "has no key prices.yaml"),
        ("[", "is not YAML"),
        ("- openai:x", "must be a map from model strings to prices"),
        ("gpt-4o: {inputPerMillionUSD: 1, outputPerMillionUSD: 1}", "gpt-4o is no model string"),
        ("openai:x: 1", "needs a map of inputPerMillionUSD"),
        ("openai:x: {inputPerMillionUSD: 1}", "openai:x.outputPerMillionUSD must be"),
        ("openai:x: {inputPerMillionUSD: 1e3, outputPerMillionUSD: 1}", "openai:x.inputPerMillionUSD must be"),
        ("openai:x: {input: 1, outputPerMillionUSD: 1}", "openai:x.input is unknown"),
        ("\n".join(f"openai:m{i}: {{inputPerMillionUSD: 1, outputPerMillionUSD: 1}}" for i in range(201)), "at most 200"),
        ("!!python/object/apply:os.getcwd []", "must be a map"),
    ],
)  # fmt: skip
def test_a_price_book_that_cannot_be_used_names_the_entry(text: str | None, says: str) -> None:
    with pytest.raises(PriceBookError, match=says):
        PriceBook.from_data({} if text is None else {"prices.yaml": text})


def test_an_empty_price_book_has_no_prices_and_the_version_follows_the_text() -> None:
    assert PriceBook.from_data({"prices.yaml": ""}).prices == {}
    assert BOOK.version != PriceBook.from_data({"prices.yaml": "# a comment"}).version
