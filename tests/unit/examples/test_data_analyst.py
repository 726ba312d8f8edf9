"""The data analyst of the examples, without its database: tests/cluster runs it on a real one."""

import typing

import pytest
from acme import analyst
from acme.infrastructure import POOL_SIZE, infrastructure
from pydantic_ai.models.test import TestModel

URL = "postgresql+asyncpg://analyst:the-password@nowhere.invalid/sales"


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("POD_NAME", "data-analyst-1")


async def test_the_pool_is_bounded_and_closed_and_its_password_is_not_logged(environment, caplog):
    with caplog.at_level("INFO"):
        async with infrastructure() as deps:
            pool = deps.database.pool
            assert (pool.size(), pool._max_overflow) == (POOL_SIZE, 0)
        assert deps.database.pool is not pool  # dispose() puts a new, empty one in its place
    assert [record.message for record in caplog.records] == [
        "database pool of at most 5 connections is open",
        "database pool is closed; it opened 0 connections",
    ]
    assert "the-password" not in caplog.text


async def test_without_a_database_url_the_agent_says_which_variable_is_missing(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(KeyError, match="DATABASE_URL"):
        async with infrastructure():
            pass


def test_there_is_a_query_for_every_dimension_that_the_model_may_ask_for():
    assert set(analyst.REVENUE) == set(typing.get_args(analyst.Dimension))


async def test_the_model_chooses_a_dimension_and_writes_no_sql(environment):
    model = TestModel(call_tools=[])
    async with infrastructure() as deps:
        await analyst.agent.run("Which region earns most?", model=model, deps=deps)
    (tool,) = model.last_model_request_parameters.function_tools
    assert tool.name == "revenue"
    assert tool.parameters_json_schema["properties"]["by"]["enum"] == ["region", "product", "month"]
    assert list(tool.parameters_json_schema["properties"]) == ["by"]
