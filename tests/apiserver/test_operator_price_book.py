"""A platform's prices reach the ledgers as soon as its price book says them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.standalone import StandaloneControlPlane

from .operator_process import SYSTEM_NAMESPACE, OperatorProcess, Workbench, eventually

MODEL = "openai-chat:gpt-4o-mini"
BUDGET = {"daily": {"costUSD": "5"}}


@pytest.fixture
def system(control_plane: StandaloneControlPlane) -> Iterator[Workbench]:
    """The operator's own namespace, without the price book before and after."""
    at = Workbench(control_plane, SYSTEM_NAMESPACE)
    at.kubectl("delete", "configmap", "prices", "--ignore-not-found", check=False)
    yield at
    at.kubectl("delete", "configmap", "prices", "--ignore-not-found", check=False)


def write(system: Workbench, text: str) -> None:
    body = {"metadata": {"name": "prices"}, "data": {"prices.yaml": text}}
    if system.find("ConfigMap", "prices") is None:
        system.create("ConfigMap", body)
    else:
        system.patch("ConfigMap", "prices", body)


def priced(price: str) -> str:
    return f"{MODEL}: {{inputPerMillionUSD: {price}, outputPerMillionUSD: {price}}}"


def prices(at: Workbench) -> list[str]:
    return [entry["inputPerMillionUSD"] for entry in at.get("AgentLedger", "agent")["spec"].get("prices") or []]


def test_prices_follow_the_book_and_the_last_good_ones_stay(
    make_operator: Callable[..., OperatorProcess], system: Workbench, at: Workbench
):
    operator = make_operator(PRICE_BOOK="prices").start()
    eventually("its absence is told", lambda: "there is no ConfigMap prices" in operator.log)
    at.agent(budget=BUDGET, model={"name": MODEL})
    at.serves()
    assert prices(at) == []
    write(system, priced("1.5"))
    eventually("the price is in force", lambda: prices(at) == ["1.5"])
    write(system, "not: [a, price")

    def told() -> Any:
        return [event for event in system.list("Event") if event["reason"] == "PriceBookRefused"]

    eventually("the broken book is told", told)
    eventually("its fault is told", lambda: "prices.yaml is not YAML" in operator.log)
    assert prices(at) == ["1.5"]
    assert operator.stop() == 0
    operator.start()
    at.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": 7}}}})
    eventually("the new limit is in force", lambda: "tokens" in at.get("AgentLedger", "agent")["spec"]["windows"][0])
    assert prices(at) == ["1.5"], "a restart forgets no price"
    write(system, priced("2"))
    eventually("the mended book is in force", lambda: prices(at) == ["2"])
    assert operator.stop() == 0


def test_a_model_without_a_price_is_named_until_the_book_has_one(
    make_operator: Callable[..., OperatorProcess], system: Workbench, at: Workbench
):
    operator = make_operator(PRICE_BOOK="prices").start()
    at.agent(budget=BUDGET, model={"name": "openai-chat:our-own", "baseURL": "http://vllm.models.svc/v1"})
    message = at.settles("PricesResolved", "False", "PriceUnknown")
    assert "openai-chat:our-own has no price" in message
    eventually("it is told", lambda: [e for e in at.list("Event") if e["reason"] == "PriceUnknown"])
    write(system, "openai-chat:our-own: {inputPerMillionUSD: 0.05, outputPerMillionUSD: 0.05}")
    at.settles("PricesResolved", "True", "Priced")
    assert operator.stop() == 0
