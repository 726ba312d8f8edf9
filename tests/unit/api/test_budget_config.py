"""What of a budget reaches a pod's configuration: what needs new pods, and nothing that is live."""

from typing import Any

import pytest

from agentservice_api.budget.terms import ledger_spec
from agentservice_api.config import LedgerType, RuntimeConfig, runtime_config
from agentservice_api.spec import AgentServiceSpec

LIMITS = {"daily": {"tokens": 1000}}
REDIS = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
PRICING = {"inputPerMillionUSD": "1", "outputPerMillionUSD": "2"}


def spec(**parts: Any) -> AgentServiceSpec:
    model = {"name": "openai-chat:x", **parts.pop("model", {})}
    return AgentServiceSpec.model_validate({"agent": {"instructions": "x"}, "model": model, **parts})


def config(given: AgentServiceSpec, **more: Any) -> RuntimeConfig:
    return runtime_config(name="a", namespace="n", spec=given, instructions=None, generated_token=None, **more)


def test_without_a_budget_the_bytes_are_those_of_before_there_were_budgets() -> None:
    assert config(spec(replicas=3, redis=REDIS)).to_json() == (
        b'{"agent":{"instructions":"x"},"auth":{},"model":{"name":"openai-chat:x"},"name":"a","namespace":"n","observability":{},'
        b'"schemaVersion":1,"serving":{"concurrencyPerPod":32,"drainTimeoutSeconds":310}}'
    )


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"daily": {"tokens": 7, "costUSD": "1"}, "monthly": {"costUSD": "20"}}},
        {"budget": {**LIMITS, "enforcement": "Soft", "timeZone": "Asia/Tokyo", "alertAtPercent": [10]}},
        {"budget": LIMITS, "model": {"pricing": PRICING}},
        {"budget": {**LIMITS, "ledger": {"type": "Kubernetes"}}},
    ],
)  # fmt: skip
def test_limits_enforcement_zone_alerts_and_prices_are_live_and_change_no_configuration(change: dict[str, Any]) -> None:
    assert config(spec(**change)).to_json() == config(spec(budget=LIMITS)).to_json()


def test_the_price_of_the_model_to_degrade_to_is_live_too() -> None:
    cheap: dict[str, Any] = {"name": "openai-chat:y", "settings": {"maxTokens": 5}}
    plain, priced = (
        config(spec(budget={**LIMITS, "degrade": {"atPercent": 90, "model": {**cheap, **pricing}}}))
        for pricing in ({}, {"pricing": PRICING})
    )
    assert plain == priced
    assert plain.budget is not None
    assert plain.budget.degrade is not None
    assert plain.budget.degrade.model.settings.max_tokens == 5


@pytest.mark.parametrize(
    ("choice", "redis", "in_a_cluster", "elsewhere"),
    [
        ("Auto", None, LedgerType.KUBERNETES, LedgerType.SQLITE),
        ("Auto", REDIS, LedgerType.REDIS, LedgerType.REDIS),
        ("Kubernetes", REDIS, LedgerType.KUBERNETES, LedgerType.SQLITE),
        ("Redis", REDIS, LedgerType.REDIS, LedgerType.REDIS),
    ],
)
def test_which_ledger_is_resolved_before_the_pod_is_made(
    choice: str, redis: dict[str, Any] | None, in_a_cluster: LedgerType, elsewhere: LedgerType
) -> None:
    parts: dict[str, Any] = {"budget": {**LIMITS, "ledger": {"type": choice}}, **({"redis": redis} if redis else {})}
    given = spec(**parts)
    terms = ledger_spec(given, price_book=None)
    for found, expected in ((config(given), in_a_cluster), (config(given, terms=terms), elsewhere)):
        assert found.budget is not None
        assert found.budget.ledger is expected
        assert (found.budget.redis_url is not None) == (expected is LedgerType.REDIS)
        assert RuntimeConfig.from_json(found.to_json()) == found
    assert config(given).budget != config(given, terms=terms).budget
