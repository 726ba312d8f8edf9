"""Decides what `spec.postgres` may say: the PostgreSQL that keeps what must outlast a Redis."""

from __future__ import annotations

from pydantic import Field

from agentservice_api.schema import Model
from agentservice_api.spec.references import SecretSource


class PostgresSpec(Model):
    """A database of the agent's own, or one that it shares with others."""

    url_from: SecretSource = Field(
        description="The Secret's key that holds its URL, for instance postgresql://agent:password@db.team-a.svc:5432/agents. "
        "SQLAlchemy's form postgresql+asyncpg:// will do too."
    )
