"""What `/metrics` says of a pod: every series is documented, and moves as its sentence says."""

from __future__ import annotations

import contextlib
import threading

import httpx2
from prometheus_client.parser import text_string_to_metric_families as parsed
from tests.services.redis_server import RedisServer

from agentservice_api.series import OTHER, PodSeries
from agentservice_runtime.metrics import MAX_NAMES, Metrics

AGENT = {"agent_name": "support"}


def told(agent) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed(agent.client.get("/metrics").text)
        for sample in family.samples
    }


def value(agent, series: PodSeries, suffix: str = "", **labels: str) -> float:
    """The value of one series; 0 where it is not told."""
    return told(agent).get((series.value + suffix, tuple(sorted({**AGENT, **labels}.items()))), 0)


def test_the_four_series_of_the_guide_move_with_a_run(embed):
    agent = embed()
    agent.run("x")
    agent.client.post("/v1/run", json={"input": 1})
    assert value(agent, PodSeries.RUNS, status="success") == 1
    assert value(agent, PodSeries.RUNS, status="validation") == 1
    assert value(agent, PodSeries.RUN_SECONDS, "_count") == 1
    assert value(agent, PodSeries.ACTIVE) == 0
    assert value(agent, PodSeries.TOKENS, token_type="input") > 0
    assert value(agent, PodSeries.TOKENS, token_type="output") > 0
    assert value(agent, PodSeries.RUN_SECONDS, "_bucket", le="300.0") == 1, "agents think for minutes"


def test_every_series_of_a_pod_is_documented_where_its_name_is_defined_and_has_the_labels_it_says(
    embed, configuration, installed
):
    terms = {"enforcement": "Hard", "windows": [{"name": "daily", "tokens": 100000}], "prices": []}
    with RedisServer() as redis:
        url = {"secretKeyRef": {"name": "redis", "key": "url"}}
        cache, queue = {"redisUrl": url, "scope": "Shared"}, {"redisUrl": url}
        config = configuration(cache=cache, queue=queue, budget={"ledger": "SQLite", "terms": terms})
        agent = embed(config, secrets={"redis/url": redis.url})
        assert agent.run("x").status_code == 200
        assert agent.client.post("/v1/stream", json={"input": "y"}).status_code == 200
        known = {name: series for series in PodSeries for name in series.stored}
        found = [(name, dict(labels)) for name, labels in told(agent) if not name.startswith("process_")]
    told_of = {
        "agentservice_cache_requests_total",
        "agentservice_budget_settled_tokens_total",
        "agentservice_tasks_queue",
    }
    assert told_of <= {n for n, _ in found}
    for name, labels in found:
        assert labels.keys() - {"le"} == set(known[name].labels), name


def test_each_attempt_at_a_model_is_counted_under_the_name_that_the_specification_has(embed, configuration, provider):
    fallback = provider.serving("second")
    del fallback["retry"]
    model = {"retry": {"maxAttempts": 2, "backoffSeconds": 1}, "fallbacks": [fallback]}
    agent = embed(configuration(model=model), model="503")
    assert agent.run("hello").status_code == 200
    first, second = {"model": "openai-chat:503"}, {"model": "openai-chat:second"}
    assert value(agent, PodSeries.MODEL_REQUESTS, **first, status="external_service") == 2
    assert value(agent, PodSeries.MODEL_REQUESTS, **second, status="success") == 1
    assert value(agent, PodSeries.MODEL_SECONDS, "_count", **first) == 2
    assert value(agent, PodSeries.RETRIES, **first, category="external_service") == 1
    assert value(agent, PodSeries.FALLBACKS, **second, category="external_service") == 1


def test_a_stream_tells_how_long_its_first_token_took_and_a_plain_run_does_not(embed):
    agent = embed()
    agent.run("x")
    assert value(agent, PodSeries.FIRST_TOKEN_SECONDS, "_count", model="test") == 0
    agent.client.post("/v1/stream", json={"input": "x"})
    assert value(agent, PodSeries.FIRST_TOKEN_SECONDS, "_count", model="test") == 1
    assert value(agent, PodSeries.MODEL_SECONDS, "_count", model="test") == 2


def test_money_is_counted_by_model(embed, configuration, provider):
    agent = embed(configuration(), model="gpt-4o-mini")
    assert float(agent.run("hello").json()["cost_usd"]) > 0
    assert value(agent, PodSeries.COST, model="openai-chat:gpt-4o-mini") > 0


def test_calls_of_tools_are_counted_by_how_they_ended(embed, configuration):
    agent = embed(
        configuration(agent={"entrypoint": "calling:agent"}, model={"name": ""}), code={"calling.py": CALLING}
    )
    assert agent.run("x").status_code == 200
    assert value(agent, PodSeries.TOOL_CALLS, tool="look", status="success") == 1
    assert value(agent, PodSeries.TOOL_CALLS, tool="look", status="retry") == 1
    assert value(agent, PodSeries.TOOL_SECONDS, "_count", tool="look") == 2


CALLING = """
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

def answer(messages, info):
    asked = sum(isinstance(m, ModelResponse) for m in messages)
    return ModelResponse([TextPart("done") if asked == 2 else ToolCallPart("look", {"n": 2 - asked})])

agent = Agent(FunctionModel(answer))

@agent.tool_plain(retries=2)
def look(n: int) -> str:
    if n > 1:
        raise ModelRetry("less")
    return "found"
"""


def test_who_waits_for_a_slot_and_who_drains_is_told(launch, configuration, wait_until):
    config = configuration(serving={"concurrencyPerPod": 1, "drainTimeoutSeconds": 60})
    agent = launch(config, model="hang")
    assert value(agent, PodSeries.SLOTS) == 1
    asking = [threading.Thread(target=ask, args=(agent,)) for _ in range(2)]
    for thread in asking:
        thread.start()
    wait_until(lambda: value(agent, PodSeries.RUNS, status="overloaded") == 1)
    assert (value(agent, PodSeries.ACTIVE), value(agent, PodSeries.WAITING)) == (1, 0)
    assert value(agent, PodSeries.DRAINING) == 0
    agent.signal()
    wait_until(lambda: value(agent, PodSeries.DRAINING) == 1)
    agent.process.kill()
    for thread in asking:
        thread.join(30)


def ask(agent) -> None:
    # the process is killed while it works
    with contextlib.suppress(httpx2.HTTPError):
        httpx2.post(f"{agent.url}/v1/run", json={"input": "x"}, timeout=60)


def test_names_that_only_running_code_knows_get_no_series_without_end():
    metrics = Metrics(agent_name="a")
    for number in range(MAX_NAMES + 10):
        metrics.called(tool=f"t{number}", status="success", seconds=0.1)
        metrics.asked(model=f"m{number}", status="success", seconds=0.1, first=0.1)
    for series, label in ((PodSeries.TOOL_CALLS, "tool"), (PodSeries.MODEL_REQUESTS, "model")):
        samples = [s for family in metrics.registry.collect() for s in family.samples if s.name == series.value]
        assert len(samples) == MAX_NAMES + 1
        (rest,) = (s for s in samples if s.labels[label] == OTHER)
        assert rest.value == 10
