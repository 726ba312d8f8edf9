"""Decides what agent whole runtimes serve, and how its budget stands in their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.bench.budgets import load
from tests.bench.budgets.ledgers import LedgerChoice, LedgerKind

from agentservice_api.config import LedgerType

INSTRUCTIONS: Final = "Answer briefly."
CAP: Final = 2000
"""Output tokens at most. The meter's bound of the input has room for what providers add, which must not outweigh the answer."""
LEDGER_TYPES: Final[Mapping[LedgerKind, LedgerType]] = {
    LedgerKind.SQLITE: LedgerType.SQLITE,
    LedgerKind.REDIS: LedgerType.REDIS,
    LedgerKind.REDIS_IN_CLUSTER: LedgerType.REDIS,
    LedgerKind.KUBERNETES: LedgerType.KUBERNETES,
}


def budget(choice: LedgerChoice) -> dict[str, Any]:
    """Return `RuntimeConfig.budget` for an account."""
    found: dict[str, Any] = {"ledger": LEDGER_TYPES[choice.kind]}
    if choice.kind.needs_redis:
        found["redisUrl"] = {"secretKeyRef": {"name": "redis", "key": "url"}}
    if not choice.kind.needs_cluster:
        found["terms"] = choice.spec.model_dump(mode="json", by_alias=True)
    return found


def configuration(*, account: str, server: str, choice: LedgerChoice | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the operator would write for the bench's agent: the configuration, and its Secrets by NAME/KEY."""
    config: dict[str, Any] = {
        "schemaVersion": 1,
        "name": account,
        "namespace": "default",
        "agent": {"instructions": INSTRUCTIONS, "limits": {"runTimeoutSeconds": 60}},
        "model": {
            "name": load.MODEL_STRING,
            "baseURL": f"{server}/v1",
            "apiKey": {"secretKeyRef": {"name": "model", "key": "api-key"}},
            "settings": {"maxTokens": CAP},
        },
        "auth": {},
        "serving": {"concurrencyPerPod": load.CLIENTS, "drainTimeoutSeconds": 10},
        "observability": {"logLevel": "warning"},
    }
    files = {"model/api-key": account}
    if choice is not None:
        config["budget"] = budget(choice)
        if choice.redis_url is not None:
            files["redis/url"] = choice.redis_url
        if choice.access is not None:
            config["namespace"] = choice.access.namespace
    return config, files
