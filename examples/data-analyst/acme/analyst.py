"""Acme's data analyst: a pydantic_ai.Agent like any other, with a tool that asks the database."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from pydantic_ai import Agent, RunContext
from sqlalchemy import text

from acme.infrastructure import Infrastructure

Dimension = Literal["region", "product", "month"]

REVENUE = {
    "region": text("SELECT region AS label, sum(amount) AS amount FROM sales GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20"),
    "product": text("SELECT product AS label, sum(amount) AS amount FROM sales GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20"),
    "month": text(
        "SELECT to_char(day, 'YYYY-MM') AS label, sum(amount) AS amount FROM sales GROUP BY 1 ORDER BY 1 LIMIT 20"
    ),
}
"""The model chooses one of these; it never writes SQL."""


class Revenue(BaseModel):
    """The revenue of one region, product or month."""

    label: str
    amount_usd: str = Field(description="A decimal number.")


class Analysis(BaseModel):
    """What the analyst answers."""

    summary: str = Field(description="The answer in one or two sentences.")
    findings: list[str] = Field(description="What the numbers say, each with its number.")
    recommendations: list[str] = Field(description="What to do about it.")


agent = Agent(
    name="data-analyst",
    deps_type=Infrastructure,
    output_type=Analysis,
    instructions=(
        "You are a data analyst. Ask the database before you answer, say plainly what the numbers show, and end with "
        "recommendations that follow from them."
    ),
)


@agent.tool
async def revenue(ctx: RunContext[Infrastructure], by: Dimension) -> list[Revenue]:
    """Look up the revenue of the whole year, split by region, product or month.

    Args:
        by: How to split it.
    """
    async with ctx.deps.database.connect() as connection:
        rows = await connection.execute(REVENUE[by])
        return [Revenue(label=row.label, amount_usd=str(row.amount)) for row in rows]
