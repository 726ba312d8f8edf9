"""A budget over whole runs of a runtime process: what the provider has billed is the truth, and it is never more than the limit."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest


def budget(tokens: int | None = None, *, enforcement: str = "Hard", **terms):
    windows = [{"name": "daily", "tokens": tokens}] if tokens is not None else []
    return {"ledger": "SQLite", "terms": {"enforcement": enforcement, "windows": windows, **terms}}


@pytest.fixture
def environ(tmp_path, provider):
    """Where the model's provider is, and a ledger of this test's own."""
    return lambda name="ledger.db": {"PROVIDER": f"{provider.url}/v1", "AGENTSERVICE_LEDGER": str(tmp_path / name)}


@pytest.fixture
def metered(launch, configuration, provider, environ):
    """Start an agent with a budget, and a function that tells what was billed since."""

    def start(model, tokens=None, *, code=None, agent=None, **limits):
        config = configuration(
            agent=agent or {"instructions": "x", "limits": {"requestsPerRun": 60}},
            model={"name": "x", "settings": {"maxTokens": 8}},
            budget=budget(tokens, **limits),
            serving={"concurrencyPerPod": 64, "drainTimeoutSeconds": 10},
        )
        started = launch(config, model=model, code=code, environ=environ(f"{model}.db"))
        before = provider.state()["billed"]["tokens"]
        return started, lambda: provider.state()["billed"]["tokens"] - before

    return start


def settled(agent) -> int:
    """Tokens that the meter has settled, of all models."""
    found = re.findall(
        r"^agentservice_budget_settled_tokens_total\{.*\} (\S+)", agent.client.get("/metrics").text, re.M
    )
    return int(sum(map(float, found)))


def test_many_callers_at_once_spend_no_more_than_the_limit_and_nearly_all_of_it(metered):
    agent, billed = metered("x", 12_000)
    with ThreadPoolExecutor(max_workers=32) as callers:
        answers = list(callers.map(lambda n: agent.run(f"Question {n}"), range(450)))
    assert 12_000 * 0.94 <= billed() <= 12_000, "what is left is less than the bound of one request"
    refused = next(answer for answer in answers if answer.status_code != 200)
    problem = refused.json()
    assert (refused.status_code, problem["category"], problem["retryable"]) == (429, "budget", False)
    assert refused.headers["x-should-retry"] == "false"
    assert int(refused.headers["retry-after"]) > 1
    assert not re.search(r"\d", problem["detail"]), "no figures in a refusal"
    assert settled(agent) == billed()


def test_a_budget_outlives_the_process(metered, launch, configuration, environ):
    agent, billed = metered("x", 300)
    while agent.run("Again").status_code == 200:
        pass
    spent = billed()
    agent.signal()
    assert agent.exit_code() == 0
    again = launch(
        configuration(model={"name": "x", "settings": {"maxTokens": 8}}, budget=budget(300)),
        model="x",
        environ=environ("x.db"),
    )
    assert again.run("And now?").status_code == 429
    assert billed() == spent


def test_the_openai_sdk_is_told_not_to_repeat_a_refused_request(metered):
    agent, _ = metered("x", 1)
    seen = []
    client = openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none")
    client._client.event_hooks["request"].append(lambda request: seen.append(request))
    with pytest.raises(openai.RateLimitError):
        client.post("/run", body={"input": "Hello"}, cast_to=object)
    assert len(seen) == 1


NESTED = """
import asyncio
import os
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

def model(name: str) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=os.environ["PROVIDER"], api_key="k"))

def look(x: int) -> str:
    return "seen"

agent = Agent(model("turns-8"))
inner = Agent(model("turns-4"), tools=[look])

@agent.tool_plain
async def ask(x: int) -> str:
    if x % 2:
        return (await inner.run("inner question")).output
    # a loop of its own in a thread needs a client of its own
    return await asyncio.to_thread(lambda: Agent(model("turns-4"), tools=[look]).run_sync("inner question").output)

@agent.tool_plain
async def never(x: int) -> str:
    return "never"
"""


def test_nested_agents_are_counted_though_their_tool_passes_no_usage_on(metered, provider):
    agent, billed = metered(
        "turns-8",
        200_000,
        code={"mine.py": NESTED},
        agent={"entrypoint": "mine:agent", "limits": {"requestsPerRun": 60}},
    )
    before = provider.state()["requests"]
    answer = agent.run("outer question")
    assert answer.status_code == 200, answer.text
    assert provider.state()["requests"] - before == 9 + 8 * 5
    assert settled(agent) == billed() > 0


def test_a_nested_agent_is_refused_when_the_budget_is_used_up(metered):
    agent, billed = metered(
        "turns-8", 900, code={"mine.py": NESTED}, agent={"entrypoint": "mine:agent", "limits": {"requestsPerRun": 60}}
    )
    answer = agent.run("outer question")
    assert (answer.status_code, answer.json()["category"]) == (429, "budget")
    assert settled(agent) == billed() <= 900


def test_a_stream_whose_reader_leaves_is_settled_at_no_less_than_was_billed(metered, wait_until):
    agent, billed = metered("stream-40-50", 100_000)
    with agent.client.stream("POST", "/v1/stream", json={"input": "Tell me"}) as stream:
        for number, _ in enumerate(stream.iter_lines()):
            if number > 6:
                break
    wait_until(lambda: settled(agent) >= billed() > 0, what="the settlement")


def test_an_answer_without_usage_is_settled_at_its_bound(metered):
    agent, billed = metered("silent", 100_000)
    assert agent.run("Hello").status_code == 200
    assert settled(agent) >= billed() > 0


def test_a_bill_of_thirty_times_the_bound_is_shown_and_the_next_request_refused(metered):
    agent, billed = metered("x-30x", 2000)
    assert agent.run("Hello").status_code == 200
    assert billed() > 2000
    assert settled(agent) == billed()
    metrics = agent.client.get("/metrics").text
    assert float(re.search(r"^agentservice_budget_overrun_tokens_total\{.*\} (\S+)", metrics, re.M)[1]) > 0
    assert agent.run("Hello").status_code == 429


GREEDY = """
import os
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

model = OpenAIChatModel("x", provider=OpenAIProvider(base_url=os.environ["PROVIDER"], api_key="k"))
agent = Agent(model, model_settings=ModelSettings(extra_body={body}))
"""


@pytest.mark.parametrize(
    "body", ['{"n": 8}', '{"max_completion_tokens": 100000}', '{"service_tier": "priority"}', '{"model": "dearer"}']
)
def test_code_that_asks_for_more_than_its_bound_is_refused_before_anything_is_sent(
    launch, configuration, provider, environ, body
):
    config = configuration(agent={"entrypoint": "mine:agent"}, model={"name": ""}, budget=budget(100_000))
    agent = launch(config, code={"mine.py": GREEDY.replace("{body}", body)}, environ=environ())
    before = provider.state()["requests"]
    answer = agent.run("Hello")
    assert (answer.status_code, answer.json()["category"]) == (422, "budget")
    assert re.search(r"extra_body\.\w+", answer.json()["detail"])
    assert provider.state()["requests"] == before


def test_what_is_sent_has_an_output_cap_though_nobody_asked_for_one(launch, configuration, provider, environ):
    agent = launch(configuration(model={"name": "x"}, budget=budget(100_000)), model="x", environ=environ())
    assert agent.run("Hello").status_code == 200
    body = provider.state()["bodies"][-1]
    assert body.get("max_completion_tokens") or body.get("max_tokens")


def test_a_dollar_limit_refuses_a_model_without_a_price(launch, configuration, environ):
    terms = {"ledger": "SQLite", "terms": {"windows": [{"name": "daily", "nanoUSD": 10**9}]}}
    agent = launch(configuration(model={"name": "x"}, budget=terms), model="x", environ=environ())
    answer = agent.run("Hello")
    assert answer.status_code == 422
    assert "spec.model.pricing" in answer.json()["detail"]
    price = {"model": "openai-chat:x", "inputPerMillionUSD": "1", "outputPerMillionUSD": "2", "source": "spec/1"}
    terms["terms"]["prices"] = [price]
    priced = launch(configuration(model={"name": "x"}, budget=terms), model="x", environ=environ())
    answer = priced.run("Hello")
    assert (answer.status_code, answer.json()["cost_usd"]) == (200, "0.000036")  # 20 in and 8 out


@pytest.mark.parametrize("enforcement", ["Soft", "Observe"])
def test_limits_that_do_not_refuse_serve_and_count(metered, enforcement):
    agent, billed = metered("x", 10, enforcement=enforcement)
    for _ in range(3):
        assert agent.run("Hello").status_code == 200
    assert settled(agent) == billed() == 3 * 28


def test_the_test_model_costs_nothing_under_a_dollar_limit(launch, configuration, environ):
    terms = {"ledger": "SQLite", "terms": {"windows": [{"name": "daily", "nanoUSD": 0}]}}
    agent = launch(configuration(budget=terms), environ=environ())
    answer = agent.run("Hello")
    assert (answer.status_code, answer.json()["cost_usd"]) == (200, "0")
