"""Decides what `spec.conversations` may say: where an agent remembers what was said, and for how long."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from agentservice_api.schema import Model

DEFAULT_RETENTION_SECONDS: Final = 604_800
"""A week."""
MAX_RETENTION_SECONDS: Final = 31_536_000
"""A year."""


class ConversationStore(StrEnum):
    """Where conversations are kept."""

    REDIS = "Redis"
    """In the Redis of `redis`: lost when it loses its data."""
    POSTGRES = "Postgres"
    """In a table of the database of `postgres`."""


class ConversationsSpec(Model):
    """What is said under one conversation_id of a caller is remembered from one request to the next."""

    store: ConversationStore = Field(
        description="Redis or Postgres: where conversations are kept. Needs spec.redis or spec.postgres."
    )
    retention_seconds: Annotated[int, Field(ge=60, le=MAX_RETENTION_SECONDS)] = Field(
        default=DEFAULT_RETENTION_SECONDS,
        description="Seconds after its last turn that a conversation is forgotten. Default 604800, a week.",
    )
