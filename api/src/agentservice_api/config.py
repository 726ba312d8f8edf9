"""Decides what the operator hands to the runtime: one JSON file, the whole of an agent's configuration.

The operator writes it into an immutable ConfigMap, `agentservice run` writes it into memory, and the runtime reads
nothing else. Secrets are never in it: a reference {name, key} is the file ``NAME/KEY`` under the secrets directory
(`agentservice_api.names.SECRETS_MOUNT_PATH` in a pod, ``.secrets`` on a laptop), read again when it changes.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final, Literal, TypeVar

from pydantic import Field

from agentservice_api.budget.ledger import LedgerSpec
from agentservice_api.schema import Model
from agentservice_api.spec import (
    AgentServiceSpec,
    AgentSpec,
    AuthSpec,
    CacheScope,
    ConversationStore,
    Degrade,
    Durability,
    ErrorsSpec,
    ModelChoice,
    ModelSpec,
    ObservabilitySpec,
    OnLedgerUnavailable,
    SecretKeySelector,
    SecretSource,
)
from agentservice_api.spec.conversations import DEFAULT_RETENTION_SECONDS

SCHEMA_VERSION: Final = 1
ROLE_VARIABLE: Final = "AGENTSERVICE_ROLE"
"""The variable of a pod's environment that says which of `Role` it has. Absent: Role.SERVER."""

_Choice = TypeVar("_Choice", bound=ModelChoice)


class Role(StrEnum):
    """What a process of an agent does. All read the same file."""

    SERVER = "server"
    """It serves the agent's paths, and works off the queue unless there are workers for it."""
    WORKER = "worker"
    """It works off the queue, and serves /health, /ready and /metrics alone."""


class ServingConfig(Model):
    """What the process needs of `spec.runtime`."""

    concurrency_per_pod: int = Field(ge=1)
    drain_timeout_seconds: int = Field(ge=1)


class LedgerType(StrEnum):
    """Where reservations are made."""

    KUBERNETES = "Kubernetes"
    """In slices of the AgentLedger."""
    REDIS = "Redis"
    """In a Redis: in a cluster in chunks of the AgentLedger, for `agentservice run` it stands alone."""
    SQLITE = "SQLite"
    """In a file of this machine: `agentservice run`."""


class BudgetConfig(Model):
    """What of `spec.budget` needs a new revision. Limits, enforcement, zone and prices are live, in AgentLedger.spec."""

    ledger: LedgerType
    redis_url: SecretSource | None = None
    """The key that holds the URL; set with LedgerType.REDIS."""
    degrade: Degrade | None = None
    """Without its price, which is live."""
    on_ledger_unavailable: OnLedgerUnavailable = OnLedgerUnavailable.DENY
    terms: LedgerSpec | None = None
    """Limits, enforcement, zone and prices where there is no AgentLedger to hold them; None in a cluster."""


class CacheConfig(Model):
    """`spec.cache` where it is enabled."""

    redis_url: SecretSource
    """The key that holds the URL."""
    uid: str = ""
    """The AgentService's, so that in a Redis that clusters share no two services are one; empty outside of a cluster."""
    ttl_seconds: int = Field(default=3600, ge=1)
    scope: CacheScope = CacheScope.CALLER
    tags: tuple[str, ...] = ()
    cacheable_tools: tuple[str, ...] = ()


class QueueConfig(Model):
    """`spec.queue` where it is enabled. How many workers there are is not in it: that needs no new revision."""

    redis_url: SecretSource
    """The key that holds the URL."""
    uid: str = ""
    """As in `CacheConfig`."""
    concurrency_per_pod: int = Field(default=4, ge=1)
    lease_seconds: int = Field(default=30, ge=1)
    max_attempts: int = Field(default=3, ge=1)
    result_ttl_seconds: int = Field(default=86_400, ge=1)
    has_workers: bool = False
    """Whether pods of their own work: those with ROLE_VARIABLE set to Role.WORKER. The others then only take tasks in."""
    steps_url: SecretSource | None = None
    """The key that holds the URL of the database that keeps the tasks' steps. None: Durability.NONE."""


class ConversationsConfig(Model):
    """`spec.conversations`."""

    store: ConversationStore
    url: SecretSource
    """The key that holds the store's URL."""
    uid: str = ""
    """The AgentService's, as in `CacheConfig`."""
    retention_seconds: int = Field(default=DEFAULT_RETENTION_SECONDS, ge=1)


class RuntimeConfig(Model):
    """The configuration of one revision. `agent.instructions_from` is resolved: it is never set here."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    namespace: str
    agent: AgentSpec
    model: ModelSpec
    auth: AuthSpec
    serving: ServingConfig
    observability: ObservabilitySpec
    errors: ErrorsSpec = ErrorsSpec()
    budget: BudgetConfig | None = None
    """None: nothing is metered."""
    cache: CacheConfig | None = None
    """None: no answer is given twice."""
    queue: QueueConfig | None = None
    """None: no task is taken."""
    conversations: ConversationsConfig | None = None
    """None: each request stands alone."""

    @property
    def models(self) -> tuple[ModelChoice, ...]:
        """Every model that is named."""
        degrade = self.budget.degrade if self.budget is not None else None
        return (self.model, *self.model.fallbacks, *([degrade.model] if degrade is not None else []))

    def to_json(self) -> bytes:
        """Return the canonical bytes: equal configurations give equal bytes, and an unset field is left out.

        Leaving out what is unset keeps the bytes, and so the revision, when a later version adds fields.
        """
        content = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        content["schemaVersion"] = self.schema_version
        return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes) -> RuntimeConfig:
        """Read the file's bytes. Raises pydantic.ValidationError that names the field."""
        return cls.model_validate_json(content)


def runtime_config(
    *,
    name: str,
    namespace: str,
    spec: AgentServiceSpec,
    instructions: str | None,
    generated_token: SecretKeySelector | None,
    terms: LedgerSpec | None = None,
    uid: str = "",
) -> RuntimeConfig:
    """Return the runtime's view of ``spec``.

    ``instructions`` is the text behind `instructionsFrom` (None when the spec does not use it); ``generated_token``
    the key of the Secret that the operator generated (None when the spec names its tokens or wants none); ``terms`` the
    budget's terms where there is no cluster whose AgentLedger holds them (`agentservice_api.budget.terms.ledger_spec`);
    ``uid`` the AgentService's, where there is one.

    Prices and limits are left out: changing them restarts no pod.
    """
    agent = spec.agent
    if agent.instructions_from is not None:
        if instructions is None:
            raise ValueError("agent.instructionsFrom is not resolved")
        agent = agent.model_copy(update={"instructions": instructions, "instructions_from": None})
    auth = spec.auth
    if generated_token is not None:
        auth = AuthSpec.model_validate(
            {
                **auth.model_dump(by_alias=True),
                "tokens": [{"name": "generated", "valueFrom": {"secretKeyRef": generated_token.model_dump()}}],
            }
        )
    return RuntimeConfig(
        name=name,
        namespace=namespace,
        agent=agent,
        model=_unpriced(spec.model).model_copy(update={"fallbacks": tuple(map(_unpriced, spec.model.fallbacks))}),
        auth=auth,
        serving=ServingConfig(
            concurrency_per_pod=spec.runtime.concurrency_per_pod, drain_timeout_seconds=spec.drain_timeout_seconds
        ),
        observability=spec.observability,
        errors=spec.errors,
        budget=_budget_config(spec, terms),
        cache=_cache_config(spec, uid),
        queue=_queue_config(spec, uid),
        conversations=_conversations_config(spec, uid),
    )


def _unpriced(model: _Choice) -> _Choice:
    return model.model_copy(update={"pricing": None})


def _budget_config(spec: AgentServiceSpec, terms: LedgerSpec | None) -> BudgetConfig | None:
    budget = spec.budget
    if budget is None:
        return None
    wants_redis = spec.budget_is_in_redis
    degrade = budget.degrade
    if degrade is not None:
        degrade = degrade.model_copy(update={"model": _unpriced(degrade.model)})
    elsewhere = LedgerType.KUBERNETES if terms is None else LedgerType.SQLITE
    return BudgetConfig(
        ledger=LedgerType.REDIS if wants_redis else elsewhere,
        redis_url=spec.redis.url_from if wants_redis and spec.redis is not None else None,
        degrade=degrade,
        on_ledger_unavailable=budget.on_ledger_unavailable,
        terms=terms,
    )


def _cache_config(spec: AgentServiceSpec, uid: str) -> CacheConfig | None:
    cache = spec.cache
    if not cache.enabled or spec.redis is None:
        return None
    return CacheConfig(
        redis_url=spec.redis.url_from,
        uid=uid,
        ttl_seconds=cache.ttl_seconds,
        scope=cache.scope,
        tags=cache.tags,
        cacheable_tools=cache.cacheable_tools,
    )


def _queue_config(spec: AgentServiceSpec, uid: str) -> QueueConfig | None:
    queue = spec.queue
    if not queue.enabled or spec.redis is None:
        return None
    steps = spec.postgres if queue.durability is Durability.STEPS else None
    return QueueConfig(
        redis_url=spec.redis.url_from,
        uid=uid,
        concurrency_per_pod=queue.concurrency_per_pod,
        lease_seconds=queue.lease_seconds,
        max_attempts=queue.max_attempts,
        result_ttl_seconds=queue.result_ttl_seconds,
        has_workers=queue.workers is not None,
        steps_url=None if steps is None else steps.url_from,
    )


def _conversations_config(spec: AgentServiceSpec, uid: str) -> ConversationsConfig | None:
    wanted = spec.conversations
    if wanted is None:
        return None
    where = spec.redis if wanted.store is ConversationStore.REDIS else spec.postgres
    if where is None:
        return None
    return ConversationsConfig(
        store=wanted.store, url=where.url_from, uid=uid, retention_seconds=wanted.retention_seconds
    )
