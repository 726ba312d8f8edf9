"""A budget as callers, providers and the books see it. The truth is what the provider has billed, by its own count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from tests.runtime.books import USAGE, Books, budget

ANSWER_COST = "0.0000078"
"""20 tokens at 0.15 and 8 at 0.60 dollars per million."""


@pytest.fixture
def books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> Callable[[], dict[str, int]]:
    """Return today's account, once nothing is in flight."""
    path = tmp_path / "ledger.sqlite"
    monkeypatch.setenv("AGENTSERVICE_LEDGER", str(path))

    def settled() -> dict[str, int]:
        wait_until(lambda: Books(path).today()["reserved"] == 0, what="all settled")
        return Books(path).today()

    return settled


def test_what_the_provider_bills_is_what_is_settled_and_what_the_caller_is_told(
    embed: Any, configuration: Any, provider: Any, books: Any, events: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("echo")), model="echo")
    answer = agent.run("hello").json()
    assert answer["cost_usd"] == ANSWER_COST
    streamed = events(agent.client.post("/v1/stream", json={"input": "hello"}).text)
    assert streamed[-1][1]["cost_usd"] == ANSWER_COST
    assert books()["settled"] == provider.state()["billed"]["tokens"] == 2 * USAGE
    assert books()["nano"] == 2 * 7_800
    assert [line["cost_usd"] for line in agent.lines("run")] == [ANSWER_COST] * 2
    assert agent.metric("agentservice_budget_settled_tokens_total", model="openai:echo") == 2 * USAGE
    assert agent.metric("agentservice_budget_estimate_ratio_count") == 2


def test_the_output_cap_is_always_sent_and_shrinks_near_the_limit_instead_of_refusing(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("echo", tokens=5_000)), model="echo")
    assert agent.run("hello").status_code == 200
    assert agent.run("x" * 3_000).status_code == 200
    first, second = (body["max_completion_tokens"] for body in provider.state()["bodies"])
    assert first == 4_096
    assert 256 <= second < 1_500
    assert agent.run("x" * 4_500).status_code == 429
    assert provider.state()["requests"] == 2


def test_a_budget_that_is_used_up_answers_429_until_its_window_ends_and_tells_no_figures(
    embed: Any, configuration: Any, provider: Any, books: Any, events: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("echo", tokens=100)), model="echo")
    refused = agent.run("hello")
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    problem = refused.json()
    assert (problem["category"], problem["retryable"]) == ("budget", False)
    assert "100" not in problem["detail"]
    name, data = events(agent.client.post("/v1/stream", json={"input": "hello"}).text)[-1]
    assert (name, data["status"], data["category"]) == ("error", 429, "budget")
    assert provider.state()["requests"] == 0
    assert agent.metric("agentservice_budget_refused_total", reason="exhausted") == 2
    assert agent.client.get("/ready").status_code == 200


def test_the_openai_sdk_sends_a_request_that_the_budget_refuses_exactly_once(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    agent = embed(configuration(budget=budget("echo", tokens=100)), model="echo")
    sent: list[str] = []
    http = httpx2.Client(event_hooks={"request": [lambda request: sent.append(str(request.url))]})
    client = openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none", http_client=http)
    with pytest.raises(openai.RateLimitError):
        client.post("/run", body={"input": "hello"}, cast_to=httpx2.Response)
    assert len(sent) == 1


def test_a_stream_that_its_client_leaves_at_half_is_settled_for_at_least_what_was_billed(
    embed: Any, configuration: Any, provider: Any, books: Any, wait_until: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("stream-200-20")), model="stream-200-20")
    with agent.client.stream("POST", "/v1/stream", json={"input": "hello"}) as response:
        lines = response.iter_lines()
        while "word2" not in next(lines):
            pass
    wait_until(lambda: provider.state()["cancelled"], what="the provider's notice")
    account = books()
    assert account["settled"] >= provider.state()["billed"]["tokens"] == 220
    assert account["presumed"] == 0
    assert agent.metric("agentservice_budget_unmeasured_total") == 1


def test_a_run_whose_client_hangs_up_is_stopped_and_settled(
    embed: Any, configuration: Any, provider: Any, books: Any, wait_until: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("hang")), model="hang")
    with pytest.raises(httpx2.ReadTimeout):
        agent.run("hello", timeout=3)
    wait_until(lambda: provider.state()["cancelled"], what="the provider's notice")
    wait_until(lambda: agent.lines("run"), what="the run's line")
    assert books()["settled"] >= provider.state()["billed"]["tokens"] > 0


@pytest.mark.parametrize("model", ["break", "silent"])
def test_an_answer_that_breaks_or_tells_no_usage_is_settled_at_its_bound(
    model: str, embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget(model)), model=model)
    agent.client.post("/v1/stream", json={"input": "hello"})
    account = books()
    assert account["settled"] > 4_096 > provider.state()["billed"]["tokens"]


@pytest.mark.parametrize(("model", "settled"), [("429", 0), ("503", 0), ("401", 0), ("400", 0), ("500", 4_096)])
def test_a_request_that_the_provider_refuses_costs_nothing_and_one_that_fails_at_it_its_bound(
    model: str, settled: int, embed: Any, configuration: Any, books: Any
) -> None:
    agent = embed(configuration(budget=budget(model)), model=model)
    assert agent.run("hello").status_code >= 400
    assert books()["settled"] >= settled
    assert bool(books()["settled"]) == bool(settled)


def test_a_provider_that_cannot_be_reached_bills_nothing(embed: Any, configuration: Any, books: Any) -> None:
    config = configuration(budget=budget("echo"))
    config["model"] = {"name": "openai-chat:echo", "baseURL": "http://127.0.0.1:9/v1"}
    agent = embed(config)
    assert agent.run("hello").status_code == 502
    assert books()["settled"] == 0


NESTED = """
import asyncio, os, threading
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.direct import model_request
from pydantic_ai import ModelRequest

def model(name):  # an HTTP client belongs to one event loop, so each model has its own
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=os.environ["PROVIDER"], api_key="x"))
inner = Agent(model("turns-5"), name="inner")

@inner.tool_plain
def look(x: int) -> str:
    return f"found {x}"

def outer(name):
    return Agent(model(name), name="outer")

many, loop, thread, fallback, direct = (outer("tool") for _ in range(5))

@many.tool_plain
async def ask(x: int) -> str:
    results = await asyncio.gather(*(inner.run("look it up") for _ in range(8)))
    return " ".join(r.output for r in results)

@loop.tool_plain
def ask(x: int) -> str:
    return asyncio.run(inner.run("look it up", model=model("turns-5"))).output

@thread.tool_plain
def ask(x: int) -> str:
    found = []
    thread = threading.Thread(target=lambda: found.append(inner.run_sync("look it up", model=model("turns-5")).output))
    thread.start()
    thread.join()
    return found[0]

@fallback.tool_plain
async def ask(x: int) -> str:
    agent = Agent(FallbackModel(model("503"), model("500"), model("echo")))
    return (await agent.run("hello")).output

@direct.tool_plain
async def ask(x: int) -> str:
    return str((await model_request(model("echo"), [ModelRequest.user_text_prompt("hello")])).parts)
"""


@pytest.mark.parametrize(
    ("entrypoint", "requests", "charged"),
    [("many", 2 + 8 * 6, 50), ("loop", 2 + 6, 8), ("direct", 2 + 1, 3), ("thread", 2 + 6, 2)],
)
def test_agents_in_tools_are_reserved_and_settled_like_any_other_whether_or_not_they_pass_usage_on(
    entrypoint: str,
    requests: int,
    charged: int,
    launch: Any,
    configuration: Any,
    provider: Any,
    books: Any,
) -> None:
    provider.forget()
    config = configuration(budget=budget("tool", "turns-5", "echo"), model={"name": ""})
    config["agent"] = {"entrypoint": f"mine:{entrypoint}"}
    agent = launch(config, code={"mine.py": NESTED}, environ={"PROVIDER": f"{provider.url}/v1"})
    answer = agent.run("go")
    assert answer.status_code == 200, answer.text
    billed = provider.state()["billed"]
    assert billed == {"requests": requests, "tokens": requests * USAGE}
    assert books()["settled"] == billed["tokens"]
    # a thread that user code starts has lost which run it belongs to, but not the budget
    assert answer.json()["cost_usd"] == f"{charged * 0.0000078:.7f}".rstrip("0")


def test_each_attempt_of_a_fallback_is_its_own_reservation(
    launch: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    config = configuration(budget=budget("tool", "503", "500", "echo"), model={"name": ""})
    config["agent"] = {"entrypoint": "mine:fallback"}
    agent = launch(config, code={"mine.py": NESTED}, environ={"PROVIDER": f"{provider.url}/v1"})
    assert agent.run("go").status_code == 200
    # 503: nothing; 500: nobody knows, so its bound; the others as billed
    assert provider.state()["billed"]["tokens"] == 3 * USAGE
    assert agent.metric("agentservice_budget_settled_tokens_total", model="openai:503") == 0
    assert agent.metric("agentservice_budget_settled_tokens_total", model="openai:500") > 4_096
    assert agent.metric("agentservice_budget_settled_tokens_total", model="openai:echo") == USAGE


def test_a_tool_loop_that_exhausts_the_budget_ends_and_what_it_spent_is_settled(
    embed: Any, configuration: Any, provider: Any, books: Any, events: Any
) -> None:
    provider.forget()
    config = configuration(budget=budget("turns-9", tokens=2_500))
    config["agent"] |= {"tools": ["loop:look"], "limits": {"requestsPerRun": 20}}
    agent = embed(config, model="turns-9", code={"loop.py": "def look(x: int) -> str:\n    return 'y' * 100\n"})
    refused = agent.run("go")
    assert (refused.status_code, refused.json()["category"]) == (429, "budget")
    billed = provider.state()["billed"]
    assert 0 < billed["requests"] < 10
    assert books()["settled"] == billed["tokens"]
    line = agent.lines("run")[-1]
    assert (line["category"], line["requests"]) == ("budget", billed["requests"])
    assert float(line["cost_usd"]) > 0


def test_a_bill_far_beyond_its_bound_is_shown_and_the_next_request_is_refused(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("echo-30x", tokens=5_000)), model="echo-30x")
    assert agent.run("hello").status_code == 200
    billed = provider.state()["billed"]["tokens"]
    assert billed > 5_000
    assert books()["settled"] == billed
    overrun = agent.metric("agentservice_budget_overrun_tokens_total")
    assert 0 < overrun < billed
    assert agent.run("hello").status_code == 429
    assert provider.state()["requests"] == 1


REFUSED_BODIES = [
    {"n": 8},
    {"max_tokens": 100_000},
    {"max_completion_tokens": 100_000},
    {"service_tier": "priority"},
    {"model": "gpt-5-pro"},
    {"prediction": {"type": "content", "content": "x"}},
    {"web_search_options": {}, "plugins": [{"id": "web"}]},
]


@pytest.mark.parametrize("body", REFUSED_BODIES, ids=lambda body: next(iter(body)))
def test_an_agent_that_would_exceed_its_bound_through_its_settings_is_refused_before_anything_is_sent(
    body: dict[str, Any], embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    code = (
        "from pydantic_ai import Agent\nfrom pydantic_ai.models.openai import OpenAIChatModel\n"
        "from pydantic_ai.providers.openai import OpenAIProvider\n"
        f"model = OpenAIChatModel('echo', provider=OpenAIProvider(base_url='{provider.url}/v1', api_key='x'))\n"
        f"agent = Agent(model, model_settings={{'extra_body': {body!r}}})\n"
    )
    config = configuration(budget=budget("echo", usd="100"), model={"name": ""})
    config["agent"] = {"entrypoint": "settings_of:agent"}
    agent = embed(config, code={"settings_of.py": code})
    refused = agent.run("hello")
    assert (refused.status_code, refused.json()["category"]) == (422, "budget"), refused.text
    assert f"extra_body.{next(iter(body))}" in refused.json()["detail"]
    assert provider.state()["requests"] == 0
    assert books()["settled"] == 0
    assert agent.metric("agentservice_budget_refused_total", reason="unbounded") == 1


@pytest.mark.parametrize("body", REFUSED_BODIES, ids=lambda body: next(iter(body)))
@pytest.mark.parametrize("endpoint", ["run", "stream"])
def test_an_agent_that_changes_the_request_behind_the_meter_is_held_back_at_the_wire(
    endpoint: str, body: dict[str, Any], embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    code = (
        "from pydantic_ai import Agent\nfrom pydantic_ai.models.openai import OpenAIChatModel\n"
        "from pydantic_ai.providers.openai import OpenAIProvider\n"
        "class Cheat(OpenAIChatModel):\n"
        "    def prepare_request(self, settings, parameters):\n"
        "        settings, parameters = super().prepare_request(settings, parameters)\n"
        f"        return {{**settings, 'extra_body': {body!r}}}, parameters\n"
        f"model = Cheat('echo', provider=OpenAIProvider(base_url='{provider.url}/v1', api_key='x'))\n"
        "agent = Agent(model)\n"
    )
    config = configuration(budget=budget("echo", usd="100"), model={"name": ""})
    config["agent"] = {"entrypoint": "cheating:agent"}
    agent = embed(config, code={"cheating.py": code})
    refused = agent.client.post(f"/v1/{endpoint}", json={"input": "hello"})
    told = refused.text if endpoint == "run" else refused.text.split("data: ")[-1]
    problem = json.loads(told)
    assert (problem["status"], problem["category"]) == (422, "budget"), problem
    assert provider.state()["requests"] == 0
    assert books() == {"settled": 0, "nano": 0, "presumed": 0, "reserved": 0}


def test_under_soft_the_same_agent_is_served_and_fully_paid_for(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    config = configuration(budget=budget("echo", tokens=10, enforcement="Soft"))
    config["model"] |= {"settings": {"extra": {"n": 8}}}
    agent = embed(config, model="echo")
    assert agent.run("hello").status_code == 200
    assert provider.state()["bodies"][0]["n"] == 8
    assert books()["settled"] == provider.state()["billed"]["tokens"] == 20 + 8 * 8


def test_a_model_without_a_price_is_refused_by_a_hard_limit_in_dollars_before_anything_is_sent(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    agent = embed(configuration(budget=budget("echo", usd="1", priced=False)), model="echo")
    refused = agent.run("hello")
    assert refused.status_code == 422
    assert "openai:echo" in refused.json()["detail"]
    assert "spec.model.pricing" in refused.json()["detail"]
    assert provider.state()["requests"] == 0


@pytest.mark.parametrize("enforcement", ["Soft", "Observe"])
def test_soft_and_observe_serve_beyond_the_limit_and_without_a_price_and_say_so_once(
    enforcement: str, embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    agent = embed(
        configuration(budget=budget("echo", tokens=1, usd="0", priced=False, enforcement=enforcement)), model="echo"
    )
    answers = [agent.run("hello") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json()["cost_usd"] is None
    assert "max_completion_tokens" not in provider.state()["bodies"][0]
    assert books()["settled"] == 3 * USAGE
    assert sum("has no price" in line["message"] for line in agent.lines()) == 1


def test_the_test_model_costs_nothing_and_its_tokens_count(embed: Any, configuration: Any, books: Any) -> None:
    agent = embed(configuration(budget=budget(usd="0")))
    answer = agent.run("hello").json()
    assert answer["cost_usd"] == "0"
    assert books()["settled"] == answer["usage"]["total_tokens"] > 0


def test_past_its_percentage_the_cheaper_model_answers_and_is_priced_as_such(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    cheap = {"name": "openai-chat:cheap", "baseURL": f"{provider.url}/v1", "settings": {"maxTokens": 500}}
    config = configuration(
        budget=budget("echo", "cheap", tokens=100_000, degrade={"atPercent": 1, "model": cheap}),
    )
    config["model"] |= {"settings": {"maxTokens": 900, "extra": {"user": "dear"}}}
    agent = embed(config, model="echo")
    models: list[str] = []
    for _ in range(40):
        models.append(agent.run("hello").json()["model"])
        if models[-1] == "openai-chat:cheap":
            break
    assert models[0] == "openai-chat:echo"
    assert models[-1] == "openai-chat:cheap"
    last = provider.state()["bodies"][-1]
    assert (last["model"], last["max_completion_tokens"], last.get("user")) == ("cheap", 500, None)
    assert books()["settled"] == provider.state()["billed"]["tokens"]
    assert agent.lines("run")[-1]["model"] == "openai-chat:cheap"
    assert agent.metric("agentservice_budget_settled_tokens_total", model="openai:cheap") == USAGE


def test_a_busy_budget_serves_all_that_fits_one_after_the_other(
    embed: Any, configuration: Any, provider: Any, books: Any
) -> None:
    provider.forget()
    # room for two requests at a time, and for all of them in the end
    agent = embed(configuration(budget=budget("slow-100", tokens=10_500)), model="slow-100")
    with openai_threads(6) as run:
        answers = run(lambda: agent.client.post("/v1/run", json={"input": "hello"}))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert books()["settled"] == provider.state()["billed"]["tokens"] == 6 * USAGE


def openai_threads(count: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import contextmanager

    @contextmanager
    def pool() -> Any:
        with ThreadPoolExecutor(count) as threads:
            yield lambda work: [future.result() for future in [threads.submit(work) for _ in range(count)]]

    return pool()
