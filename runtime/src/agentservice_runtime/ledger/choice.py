"""Decides which ledger keeps the budget, and where; only that one is imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agentservice_api import RuntimeConfig
from agentservice_api.config import LedgerType
from agentservice_api.spec import SecretKeySelector
from agentservice_runtime.ledger.interface import Ledger, LedgerUnavailable
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles

FILE_VARIABLE: Final = "AGENTSERVICE_LEDGER"
"""Path of the SQLite file, in place of the default."""
FIELD: Final = "spec.budget.ledger.type"


def choose_ledger(config: RuntimeConfig, *, secrets: SecretFiles, environ: Mapping[str, str] = os.environ) -> Ledger:
    """Return the ledger of ``config.budget``, not opened. Raises ConfigurationRejected."""
    budget = config.budget
    if budget is None:
        raise ValueError("the configuration has no budget")
    match budget.ledger:
        case LedgerType.SQLITE:
            if budget.terms is None:
                raise ConfigurationRejected(FIELD, "SQLite keeps budgets outside of clusters only")
            from agentservice_runtime.ledger.sqlite import SQLiteLedger

            path = ledger_file(config, environ=environ)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationRejected(
                    FIELD, f"{path.parent} cannot be made ({error.strerror}): set {FILE_VARIABLE} to a file"
                ) from None
            return SQLiteLedger(path, terms=budget.terms)
        case LedgerType.REDIS:
            from agentservice_runtime.ledger.redis import StandaloneRedisLedger, in_pod

            url = _url(config, secrets=secrets)
            if budget.terms is None:
                try:
                    return in_pod(url, name=config.name, environment=environ)
                except LedgerUnavailable as error:
                    raise ConfigurationRejected(FIELD, str(error)) from None
            return StandaloneRedisLedger(url, name=f"{config.namespace}/{config.name}", terms=budget.terms)
        case LedgerType.KUBERNETES:
            from agentservice_runtime.ledger import kubernetes

            try:
                return kubernetes.in_pod(name=config.name, environment=environ)
            except LedgerUnavailable as error:
                raise ConfigurationRejected(FIELD, str(error)) from None


def ledger_file(config: RuntimeConfig, *, environ: Mapping[str, str]) -> Path:
    """Return where the SQLite file of an agent is: with the state of this user's programs (XDG base directories)."""
    chosen = environ.get(FILE_VARIABLE)
    if chosen:
        return Path(chosen)
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or ".") / ".local" / "state"
    return Path(state) / "agentservice" / config.namespace / f"{config.name}.sqlite"


def _url(config: RuntimeConfig, *, secrets: SecretFiles) -> Callable[[], str]:
    source = None if config.budget is None else config.budget.redis_url
    if source is None:
        raise ConfigurationRejected("spec.redis.urlFrom", "is missing: the Redis ledger needs it")
    selector: SecretKeySelector = source.secret_key_ref

    def url() -> str:
        value = secrets.read(selector)
        if value is None:
            raise LedgerUnavailable(f"Secret {selector.name} has no value for key {selector.key}")
        return value

    return url
