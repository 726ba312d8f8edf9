"""Agents of every kind: declared with tools, the user's own, with MCP servers, streamed, and within their limits."""

from __future__ import annotations

import sys

import pytest

OUTPUT = {
    "type": "object",
    "required": ["response", "suggested_actions", "escalated"],
    "properties": {
        "response": {"type": "string"},
        "suggested_actions": {"type": "array", "items": {"type": "string"}},
        "escalated": {"type": "boolean"},
    },
}

CODE = """
import asyncio
import time
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_ai import Agent, FunctionToolset, RunContext, Tool
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel


def lookup(x: int) -> str:
    "Look an order up."
    return f"order {x}"


async def slow(x: int) -> str:
    await asyncio.sleep(30)
    return "late"


DONE = []


def blocking(x: int) -> str:
    time.sleep(8)
    DONE.append(x)
    return "late"


toolset = FunctionToolset([lookup])
tool = Tool(lookup, name="renamed")


class Report(BaseModel):
    title: str
    score: float


own = Agent("test", output_type=Report, instructions="Report {{x}}.")
nested = Agent(TestModel(custom_output_text="the inner answer"))
outer = Agent(instructions="Ask the inner one.")


@outer.tool
async def ask_inner(ctx: RunContext, x: int) -> str:
    return (await nested.run("inner", usage=ctx.usage)).output


def make():
    return Agent("test", instructions="From a factory.")


def texts(): return Agent(TestModel(custom_output_text="mine"))
"""


@pytest.mark.parametrize(("attribute", "name"), [("lookup", "lookup"), ("toolset", "lookup"), ("tool", "renamed")])
def test_functions_tools_and_toolsets_of_the_user_are_tools(embed, configuration, provider, attribute, name):
    config = configuration(agent={"instructions": "x", "tools": [f"mine:{attribute}"]})
    agent = embed(config, model="tool", code={"mine.py": CODE})
    provider.forget()
    answer = agent.run("x")
    assert answer.json()["usage"]["requests"] == 2
    bodies = provider.state()["bodies"]
    assert bodies[0]["tools"][0]["function"]["name"] == name
    assert bodies[1]["messages"][-1]["content"] == "order 1"


def test_tools_appear_in_the_stream(embed, configuration, events):
    config = configuration(agent={"instructions": "x", "tools": ["mine:lookup"]})
    agent = embed(config, model="tool", code={"mine.py": CODE})
    found = events(agent.client.post("/v1/stream", json={"input": "x"}).text)
    assert [data for name, data in found if name == "tool"] == [
        {"name": "lookup", "phase": "start"},
        {"name": "lookup", "phase": "end"},
    ]
    assert found[-1][0] == "result"
    assert found[-1][1]["usage"]["requests"] == 2


def test_a_structured_answer_is_streamed_in_parts_and_then_whole(embed, configuration, events):
    agent = embed(configuration(agent={"instructions": "x", "outputSchema": OUTPUT}), model="echo")
    response = agent.client.post("/v1/stream", json={"input": "x"})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response.text)
    partials = [data["partial"] for name, data in found if name == "delta"]
    assert len(partials) > 3
    assert partials[0].keys() <= {"response"}
    assert found[-1][0] == "result"
    assert found[-1][1]["output"] == {"response": "done", "suggested_actions": ["a", "b"], "escalated": True}


def test_a_users_own_agent_keeps_its_output_type_and_model(embed, configuration):
    agent = embed(configuration(agent={"entrypoint": "mine:own"}, model={"name": ""}), code={"mine.py": CODE})
    body = agent.run("x").json()
    assert body["output"].keys() == {"title", "score"}
    assert body["model"] == "test:test" or body["model"] == "test"
    schemas = agent.client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Output"]["properties"].keys() == {"title", "score"}


def test_a_factory_makes_the_agent_and_spec_model_replaces_its_model(embed, configuration, provider):
    agent = embed(configuration(agent={"entrypoint": "mine:make"}), model="echo", code={"mine.py": CODE})
    provider.forget()
    body = agent.run("hello").json()
    assert body["output"] == "You said: hello"
    assert body["model"] == "openai-chat:echo"
    assert provider.state()["bodies"][0]["messages"][0]["content"] == "From a factory."


def test_nested_agents_keep_their_model_and_are_counted(embed, configuration, provider):
    agent = embed(configuration(agent={"entrypoint": "mine:outer"}), model="tool", code={"mine.py": CODE})
    provider.forget()
    body = agent.run("hello").json()
    assert body["usage"]["requests"] == 3
    assert "the inner answer" in str(provider.state()["bodies"][1]["messages"])


def test_a_users_own_agent_takes_typed_input_capabilities_and_limits(embed, configuration, provider):
    config = configuration(
        agent={
            "entrypoint": "mine:outer",
            "input": {
                "schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
                "promptTemplate": "A={a}",
            },
            "capabilities": [{"name": "Thinking", "settings": {"effort": "low"}}],
            "limits": {"requestsPerRun": 1},
        }
    )
    agent = embed(config, model="tool", code={"mine.py": CODE})
    provider.forget()
    body = agent.run({"a": 1}).json()
    assert (body["status"], body["category"]) == (429, "budget")
    assert provider.state()["bodies"][0]["messages"][-1]["content"] == "A=1"


@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        ({"requestsPerRun": 3}, 3),
        ({"toolCallsPerRun": 2}, 3),
        ({"totalTokensPerRun": 50}, 2),
        ({"maxConversationMessages": 4}, 2),
    ],
)
def test_each_limit_of_a_run_is_kept(embed, configuration, provider, limits, requests):
    config = configuration(agent={"instructions": "x", "tools": ["mine:lookup"], "limits": limits})
    agent = embed(config, model="tool-forever", code={"mine.py": CODE})
    provider.forget()
    answer = agent.run("x")
    assert (answer.status_code, answer.json()["category"]) == (429, "budget")
    assert answer.json()["retryable"] is False
    assert answer.headers["x-should-retry"] == "false"
    assert provider.state()["requests"] == requests
    (line,) = agent.lines("run")
    assert line["requests"] == requests
    assert line["input_tokens"] == 20 * requests


@pytest.mark.parametrize("tool", ["slow", "blocking"])
def test_a_slow_tool_is_stopped_and_the_model_is_told(embed, configuration, provider, tool):
    config = configuration(agent={"instructions": "x", "tools": [f"mine:{tool}"], "limits": {"toolTimeoutSeconds": 1}})
    agent = embed(config, model="tool", code={"mine.py": CODE})
    provider.forget()
    assert agent.run("x").status_code == 200
    assert "timed out after 1 seconds" in provider.state()["bodies"][1]["messages"][-1]["content"]
    assert sys.modules["mine"].DONE == [], "a function in a thread is not waited for"


MCP_KEY = {"name": "X-Tickets-Key", "valueFrom": {"secretKeyRef": {"name": "tickets", "key": "key"}}}


def test_mcp_tools_are_filtered_and_called_with_a_header_that_follows_its_secret(embed, configuration, provider):
    server = {"name": "tickets", "url": f"{provider.url}/mcp", "allowedTools": ["search"], "headers": [MCP_KEY]}
    agent = embed(
        configuration(agent={"instructions": "x", "mcpServers": [server]}),
        model="tool",
        secrets={"tickets/key": "canary-header-1"},
    )
    provider.forget()
    assert agent.run("x").status_code == 200
    state = provider.state()
    assert [t["function"]["name"] for t in state["bodies"][0]["tools"]] == ["search"]
    assert state["bodies"][1]["messages"][-1]["content"] == "ticket search"
    assert set(state["headers"]) == {"canary-header-1"}
    agent.secret("tickets", "key", "canary-header-2")
    provider.forget()
    assert agent.run("x").status_code == 200
    assert set(provider.state()["headers"]) == {"canary-header-2"}


def test_an_mcp_server_that_refuses_is_an_external_failure_and_its_header_stays_secret(embed, configuration, provider):
    server = {"name": "tickets", "url": f"{provider.url}/mcp", "headers": [MCP_KEY]}
    agent = embed(
        configuration(agent={"instructions": "x", "mcpServers": [server]}),
        model="tool",
        secrets={"tickets/key": "bad-canary-header"},
    )
    answer = agent.run("x")
    assert (answer.status_code, answer.json()["category"]) == (502, "external_service")
    assert "canary" not in answer.text + agent.stdout() + agent.stderr()


def test_an_mcp_server_that_is_not_there_is_an_external_failure(embed, configuration):
    server = {"name": "tickets", "url": "http://127.0.0.1:9/mcp"}
    agent = embed(configuration(agent={"instructions": "x", "mcpServers": [server]}), model="tool")
    assert agent.client.get("/ready").status_code == 200
    answer = agent.run("x")
    assert (answer.status_code, answer.json()["category"]) == (502, "external_service")


def test_settings_reach_the_provider(embed, configuration, provider):
    config = configuration(
        model={
            "name": "x",
            "settings": {"maxTokens": 77, "temperature": "0.25", "topP": "0.5", "seed": 7, "extra": {"user": "me"}},
        }
    )
    agent = embed(config, model="echo")
    provider.forget()
    assert agent.run("x").status_code == 200
    (body,) = provider.state()["bodies"]
    assert (body["temperature"], body["top_p"], body["seed"], body["user"]) == (0.25, 0.5, 7, "me")
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_the_cost_of_a_known_model_is_a_decimal_and_that_of_an_unknown_one_null(embed):
    assert embed(model="gpt-4o-mini").run("x").json()["cost_usd"] == "0.0000078"
    assert embed(model="nobodys-model").run("x").json()["cost_usd"] is None


def test_another_providers_key_is_put_into_its_own_header_and_follows_its_secret(embed, configuration, provider):
    key = {"apiKey": {"secretKeyRef": {"name": "anthropic", "key": "api-key"}}}
    config = configuration(model={"name": "anthropic:claude-haiku-4-5", "baseURL": provider.url, **key})
    agent = embed(config, secrets={"anthropic/api-key": "first-key"})
    provider.forget()
    answer = agent.run("x")
    assert answer.status_code == 200, agent.stdout() + answer.text
    assert answer.json()["output"] == "from messages"
    agent.secret("anthropic", "api-key", "second-key")
    assert agent.run("x").status_code == 200
    assert [key.removeprefix("Bearer ") for key in provider.state()["keys"]] == ["first-key", "second-key"]
