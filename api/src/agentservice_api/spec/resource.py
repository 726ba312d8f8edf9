"""Decides the shape of the whole AgentService: metadata that we read, specification, status."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from agentservice_api.names import MAX_NAME_LENGTH, NAME_PATTERN
from agentservice_api.schema import Model, Rule, SchemaDefault
from agentservice_api.spec.agent import AgentSpec
from agentservice_api.spec.auth import AuthSpec
from agentservice_api.spec.autoscaling import AutoscalingSpec
from agentservice_api.spec.budget import BudgetSpec, LedgerChoice
from agentservice_api.spec.cache import CacheSpec
from agentservice_api.spec.conversations import ConversationsSpec
from agentservice_api.spec.errors import ErrorsSpec
from agentservice_api.spec.model import ModelChoice, ModelSpec
from agentservice_api.spec.network import NetworkSpec
from agentservice_api.spec.observability import ObservabilitySpec
from agentservice_api.spec.postgres import PostgresSpec
from agentservice_api.spec.queue import QueueSpec
from agentservice_api.spec.redis import RedisSpec
from agentservice_api.spec.rollout import RolloutSpec
from agentservice_api.spec.runtime import RuntimeSpec
from agentservice_api.status import AgentServiceStatus


class AgentServiceSpec(Model):
    """What the author of an AgentService wants."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="self.model.name != '' || has(self.agent.entrypoint)",
            message="model.name may be empty only beside agent.entrypoint: name a model, for instance openai-chat:gpt-4o-mini or test",
            field_path=".model.name",
        ),
        Rule(
            rule="(has(self.queue) && has(self.queue.enabled) && self.queue.enabled) || "
            "!has(self.runtime) || !has(self.runtime.drainTimeoutSeconds) || self.runtime.drainTimeoutSeconds >= "
            "(has(self.agent.limits) && has(self.agent.limits.runTimeoutSeconds) ? self.agent.limits.runTimeoutSeconds : 300) + 10",
            message="runtime.drainTimeoutSeconds must be at least agent.limits.runTimeoutSeconds (default 300) + 10, "
            "or a stopping pod would cut runs: raise it, lower runTimeoutSeconds, or enable the queue",
            field_path=".runtime.drainTimeoutSeconds",
        ),
        Rule(
            rule="has(self.redis) || !has(self.budget) || !has(self.budget.ledger) || !has(self.budget.ledger.type) || "
            "self.budget.ledger.type != 'Redis'",
            message="budget.ledger.type Redis needs spec.redis: set redis.urlFrom, or leave the type out",
            field_path=".budget.ledger.type",
        ),
        Rule(
            rule="has(self.redis) || !has(self.cache) || !has(self.cache.enabled) || !self.cache.enabled",
            message="cache.enabled needs spec.redis: set redis.urlFrom, or remove the cache",
            field_path=".cache.enabled",
        ),
        Rule(
            rule="has(self.redis) || !has(self.queue) || !has(self.queue.enabled) || !self.queue.enabled",
            message="queue.enabled needs spec.redis: set redis.urlFrom, or remove the queue",
            field_path=".queue.enabled",
        ),
        Rule(
            rule="has(self.postgres) || !has(self.queue) || !has(self.queue.durability) || self.queue.durability != 'Steps'",
            message="queue.durability Steps needs spec.postgres: set postgres.urlFrom, or leave durability out",
            field_path=".queue.durability",
        ),
        Rule(
            rule="!has(self.autoscaling) || !has(self.autoscaling.queuedTasksPerPod) || "
            "(has(self.queue) && has(self.queue.enabled) && self.queue.enabled)",
            message="autoscaling.queuedTasksPerPod needs queue.enabled: enable the queue, or take the field out",
            field_path=".autoscaling.queuedTasksPerPod",
        ),
        Rule(
            rule="!has(self.conversations) || (self.conversations.store == 'Redis' ? has(self.redis) : has(self.postgres))",
            message="conversations.store Redis needs spec.redis, and Postgres needs spec.postgres: set its urlFrom, or choose the other store",
            field_path=".conversations.store",
        ),
    )

    agent: AgentSpec = Field(description="What the agent does. A change here is a new revision.")
    model: ModelSpec = Field(description="The model that answers.")
    budget: BudgetSpec | None = Field(
        default=None, description="Limits in tokens and money of a calendar day and month. Absent: unlimited."
    )
    replicas: Annotated[int, Field(ge=0, le=1000), SchemaDefault(1)] = Field(
        default=1, description="Pods that serve. Default 1. Without effect beside `autoscaling`."
    )
    autoscaling: AutoscalingSpec | None = Field(
        default=None, description="The number of pods follows the load. Absent: `replicas` says it."
    )
    redis: RedisSpec | None = Field(
        default=None,
        description="A Redis for the budget's ledger, the queue, the cache and conversations. Absent: none is needed.",
    )
    queue: QueueSpec = Field(
        default=QueueSpec(), description="Runs that are asked for now and answered later. Default: none."
    )
    postgres: PostgresSpec | None = Field(
        default=None, description="A PostgreSQL for conversations and the steps of tasks. Absent: none is needed."
    )
    cache: CacheSpec = Field(default=CacheSpec(), description="Answers that are given again. Default: none.")
    conversations: ConversationsSpec | None = Field(
        default=None, description="What was said is remembered by conversation_id. Absent: each request stands alone."
    )
    errors: ErrorsSpec = Field(default=ErrorsSpec(), description="What callers read when a run fails.")
    auth: AuthSpec = Field(default=AuthSpec(), description="Who may call the agent.")
    runtime: RuntimeSpec = Field(default=RuntimeSpec(), description="The pods that run the agent.")
    rollout: RolloutSpec = Field(default=RolloutSpec(), description="How a new revision replaces the old one.")
    network: NetworkSpec = Field(default=NetworkSpec(), description="How the agent is reached.")
    observability: ObservabilitySpec = Field(
        default=ObservabilitySpec(), description="What the agent tells about itself."
    )
    suspend: bool = Field(
        default=False, description="true: no pods run, and Ready is True with the reason Suspended. Default false."
    )

    @property
    def models(self) -> tuple[tuple[str, ModelChoice], ...]:
        """Every model that the specification names, each with its field."""
        found: list[tuple[str, ModelChoice]] = [("spec.model", self.model)]
        found += [(f"spec.model.fallbacks[{index}]", model) for index, model in enumerate(self.model.fallbacks)]
        if self.budget is not None and self.budget.degrade is not None:
            found.append(("spec.budget.degrade.model", self.budget.degrade.model))
        return tuple(found)

    @property
    def budget_is_in_redis(self) -> bool:
        """Whether reservations are made in the Redis of `redis`."""
        if self.budget is None or self.redis is None:
            return False
        return self.budget.ledger.type in (LedgerChoice.AUTO, LedgerChoice.REDIS)

    @property
    def drain_timeout_seconds(self) -> int:
        """Seconds that a stopping pod may take to finish what runs."""
        return self.runtime.drain_timeout_seconds or self.agent.limits.run_timeout_seconds + 10


class Metadata(Model):
    """The metadata that rendering and judging read."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class AgentService(Model):
    """One AgentService."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('{NAME_PATTERN}')",
            message=f"metadata.name must be at most {MAX_NAME_LENGTH} characters of a-z, 0-9 and '-', begin with a letter and end with a "
            "letter or digit, so that every derived name is legal",
        ),
    )

    metadata: Metadata
    spec: AgentServiceSpec
    status: AgentServiceStatus = AgentServiceStatus()
