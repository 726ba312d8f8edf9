"""Decides what `spec.redis` may say: the Redis that the ledger, the queue and the cache share."""

from __future__ import annotations

from pydantic import Field

from agentservice_api.schema import Model
from agentservice_api.spec.references import SecretSource


class RedisSpec(Model):
    """A Redis of the agent's own, or one that it shares with others."""

    url_from: SecretSource = Field(
        description="The Secret's key that holds its URL, for instance rediss://:password@redis.team-a.svc:6379/0."
    )
