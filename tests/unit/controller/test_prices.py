"""Which of the platform's prices are in force."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agentservice_api import Reason
from agentservice_api.budget import LedgerSpec
from agentservice_operator.prices import PlatformPrices
from agentservice_operator.rollout import Verdict

from .builders import agent_service

MODEL = "openai-chat:gpt-4o-mini"


def book(price: str = "1", text: str | None = None) -> dict[str, Any]:
    line = f'{MODEL}: {{inputPerMillionUSD: "{price}", outputPerMillionUSD: "2"}}'
    return {"data": {"prices.yaml": line if text is None else text}}


def terms(prices: PlatformPrices, *, live: LedgerSpec | None = None, **model: Any) -> LedgerSpec:
    spec = agent_service(budget={"daily": {"costUSD": "1"}}, model={"name": MODEL, **model}).spec
    return prices.terms(spec, live=live)


def inputs(spec: LedgerSpec) -> list[str]:
    return [price.input_per_million_usd for price in spec.prices]


def test_without_a_book_only_the_specification_has_prices() -> None:
    own = {"inputPerMillionUSD": "9", "outputPerMillionUSD": "9"}
    assert inputs(terms(PlatformPrices(""))) == []
    assert inputs(terms(PlatformPrices(""), pricing=own)) == ["9"]


def test_the_book_prices_the_models_that_are_used_and_the_specification_goes_first() -> None:
    prices = PlatformPrices("prices")
    assert prices.take(book())
    assert inputs(terms(prices)) == ["1"]
    assert inputs(terms(prices, pricing={"inputPerMillionUSD": "9", "outputPerMillionUSD": "9"})) == ["9"]


def test_a_book_that_says_the_same_changes_nothing() -> None:
    prices = PlatformPrices("prices")
    prices.take(book())
    assert not prices.take(book())
    assert prices.take(book("3"))


def test_a_broken_book_is_told_and_the_last_good_one_stays() -> None:
    prices = PlatformPrices("prices")
    prices.take(book())
    assert not prices.take(book(text="openai: cheap"))
    assert "openai is no model string" in prices.problem
    assert inputs(terms(prices)) == ["1"]
    assert not prices.take(None)
    assert prices.problem == "there is no ConfigMap prices"
    assert inputs(terms(prices)) == ["1"]
    assert prices.take(book("3"))
    assert prices.problem == ""


def test_an_operator_that_starts_with_a_broken_book_leaves_the_prices_in_force() -> None:
    before = PlatformPrices("prices")
    before.take(book())
    live = terms(before)
    after = PlatformPrices("prices")
    after.take(book(text="- a list"))
    assert terms(after, live=live) == live
    own = {"inputPerMillionUSD": "9", "outputPerMillionUSD": "9"}
    assert inputs(terms(after, live=live, pricing=own)) == ["9"]


def test_a_platform_that_gives_up_its_book_gives_up_its_prices() -> None:
    before = PlatformPrices("prices")
    before.take(book())
    assert inputs(terms(PlatformPrices(""), live=terms(before))) == []


def resolved(model: str, *, prices: PlatformPrices | None = None, budget: Any = None, **more: Any) -> Verdict:
    spec = agent_service(budget=budget or {"daily": {"costUSD": "1"}}, model={"name": model}, **more).spec
    prices = prices or PlatformPrices("")
    return prices.resolved(spec, prices.terms(spec, live=None), now=datetime(2026, 11, 23, tzinfo=UTC))


def test_a_model_that_is_sold_in_public_has_a_price_and_so_has_test_which_costs_nothing() -> None:
    assert resolved(MODEL).status == "True"
    assert resolved("test").status == "True"


def test_a_hard_limit_in_dollars_without_a_price_names_the_model_and_the_mend() -> None:
    verdict = resolved("openai-chat:our-own")
    assert (verdict.status, verdict.reason) == ("False", Reason.PRICE_UNKNOWN)
    assert "openai-chat:our-own has no price: requests are refused" in verdict.message
    assert "set pricing beside the model" in verdict.message


def test_the_price_book_resolves_it() -> None:
    prices = PlatformPrices("prices")
    prices.take({"data": {"prices.yaml": "openai-chat:our-own: {inputPerMillionUSD: 1, outputPerMillionUSD: 1}"}})
    assert resolved("openai-chat:our-own", prices=prices).status == "True"


def test_a_soft_limit_serves_on_and_says_so() -> None:
    verdict = resolved("openai-chat:our-own", budget={"enforcement": "Soft", "daily": {"costUSD": "1"}})
    assert verdict.status == "False"
    assert "its tokens alone are counted" in verdict.message


def test_a_limit_of_tokens_needs_no_price() -> None:
    assert resolved("openai-chat:our-own", budget={"daily": {"tokens": 1}}).status == "Unknown"


def test_the_cheaper_model_needs_a_price_too() -> None:
    cheaper = {"atPercent": 90, "model": {"name": "openai-chat:small"}}
    assert "openai-chat:small" in resolved(MODEL, budget={"daily": {"costUSD": "1"}, "degrade": cheaper}).message
