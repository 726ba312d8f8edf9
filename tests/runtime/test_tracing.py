"""Traces, as a real collector gets them: one tree per run, nothing secret in it, and nobody waits for it."""

from __future__ import annotations

import re
import signal
import socket
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from tests.services.otlp_collector import Collector
from tests.services.postgres_server import PostgresServer
from tests.services.programs import at_hand
from tests.services.redis_server import RedisServer

from devcluster.packages import Need

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
PROMPT, INSTRUCTIONS, KEY, TOKEN = "canary-prompt-7", "canary-instructions-7", "sk-canary-key-7", "canary-token-7"
SERVER, CLIENT, CONSUMER = 2, 3, 5
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
MINE = f"""
import contextlib
import logging
from opentelemetry import trace
from pydantic_ai import Agent

agent = Agent(instructions="{INSTRUCTIONS}", name="mine")
tracer = trace.get_tracer("mine")

@agent.tool_plain
def look(x: int) -> str:
    with tracer.start_as_current_span("look up", attributes={{"customer_id": 7}}):
        logging.getLogger("mine").warning("looked")
    with contextlib.suppress(RuntimeError), tracer.start_as_current_span("risk"):
        raise RuntimeError("canary-exception-7 {KEY}")
    return "canary-found-7"

"""


def traced(collector: Collector, **more) -> dict:
    headers = [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "otel", "key": "token"}}}]
    return {"otlp": {"endpoint": collector.url, "headersFrom": headers, **more.pop("otlp", {})}, **more}


def secrets() -> dict[str, str]:
    return {"otel/token": f"Bearer {TOKEN}", "openai/key": KEY}


def model() -> dict:
    return {"apiKey": {"secretKeyRef": {"name": "openai", "key": "key"}}}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def service(launch_shared, configuration, provider, collector, wait_until):
    """An agent that has done a run with a tool, one that failed at the provider, a stream and a purge, and what is told of it."""
    observability = traced(collector, environment="staging")
    config = configuration(agent={"entrypoint": "mine:agent"}, model=model(), observability=observability)
    agent = launch_shared(config, model="tool", secrets=secrets(), code={"mine.py": MINE}, environ=SOON)
    provider.forget()
    answer = agent.run(PROMPT, headers=TRACED)
    assert answer.status_code == 200, answer.text
    parents = provider.state()["traceparents"]
    failing = configuration(
        agent={"instructions": INSTRUCTIONS}, model=model(), observability=traced(collector, slowRunSeconds=1)
    )
    other = launch_shared(failing, model="as-asked", secrets=secrets(), environ=SOON)
    assert other.run(f"401 {PROMPT}").status_code == 502
    slow = other.run(f"slow-1500 {PROMPT}")
    assert slow.status_code == 200
    assert other.client.post("/v1/stream", json={"input": f"stream-3-1 {PROMPT}"}).status_code == 200
    other.client.delete(f"/v1/cache?prefix={PROMPT}")
    wait_until(lambda: {"POST /v1/run", "POST /v1/stream", "DELETE /v1/cache"} <= {s.name for s in collector.spans})
    wait_until(lambda: len(collector.named("POST /v1/run")) == 3)
    return SimpleNamespace(
        agent=agent, other=other, run_id=answer.json()["run_id"], slow=slow.json()["run_id"], parents=parents
    )


def of_trace(collector: Collector) -> dict[str, list]:
    found: dict[str, list] = {}
    for span in collector.spans:
        if span.trace_id == TRACE:
            found.setdefault(span.name, []).append(span)
    return found


def test_a_run_is_one_trace_from_the_caller_to_the_provider(service, collector):
    found = of_trace(collector)
    (request,) = found["POST /v1/run"]
    assert (request.kind, request.parent) == (SERVER, CALLER)
    (run,) = found["invoke_agent mine"]
    assert run.parent == request.id
    chats = [span for name, spans in found.items() if name.startswith("chat ") for span in spans]
    assert len(chats) == 2
    sent = [span for span in found["POST"] if span.kind == CLIENT]
    assert {span.parent for span in sent} == {chat.id for chat in chats}
    assert service.parents == [f"00-{TRACE}-{span.id}-01" for span in sent]
    (tool,) = found["execute_tool look"]
    assert (tool.parent, tool.status) == (run.id, 0)


def test_spans_of_the_users_code_nest_under_the_runs(service, collector):
    found = of_trace(collector)
    (own,) = found["look up"]
    assert own.parent == found["execute_tool look"][0].id
    assert own.attributes == {"customer_id": 7}


def test_the_requests_span_says_which_agent_and_how_it_ended(service, collector):
    (request,) = of_trace(collector)["POST /v1/run"]
    told = request.attributes
    assert (told["agentservice.run_id"], told["agentservice.status"]) == (service.run_id, "success")
    assert told["gen_ai.agent.name"] == "support"
    resource = request.resource
    assert (resource["service.name"], resource["service.namespace"]) == ("support", "team-a")
    assert (resource["service.version"], resource["deployment.environment.name"]) == ("5f2c9d1a", "staging")


def test_log_lines_carry_the_ids_of_the_trace_they_belong_to(service, collector):
    (line,) = service.agent.lines("run")
    assert line["trace_id"] == TRACE
    (own,) = service.agent.lines("looked")
    assert (own["trace_id"], own["span_id"]) == (TRACE, of_trace(collector)["look up"][0].id)


def test_a_run_that_takes_too_long_is_a_warning_in_log_trace_and_metrics(service, collector):
    # on a busy machine others may be slow too
    (line,) = [line for line in service.other.lines("slow run") if line["run_id"] == service.slow]
    assert (line["level"], line["category"]) == ("warning", "success")
    (span,) = [span for span in collector.spans if span.attributes.get("agentservice.run_id") == service.slow]
    assert span.attributes["agentservice.slow"] is True
    counted = re.compile(r'agentservice_slow_runs_total\{agent_name="support"\} [1-9]')
    assert counted.search(service.other.client.get("/metrics").text)


def test_no_prompt_no_answer_no_message_of_an_error_and_no_key_is_in_any_span(service, collector):
    assert collector.named("chat as-asked")[0].status == 2, "the failed request is there"
    assert "RuntimeError" in collector.named("risk")[0].text
    for canary in (PROMPT, INSTRUCTIONS, KEY, TOKEN, "canary-found-7", "canary-exception-7", "You said", "word0"):
        assert canary not in collector.text, canary


def test_the_collector_is_told_the_header_of_the_secret_and_gets_protobuf_at_its_path(service, collector):
    assert set(collector.paths) == {"/v1/traces"}
    assert {headers["authorization"] for headers in collector.headers} == {f"Bearer {TOKEN}"}
    assert {headers["content-type"] for headers in collector.headers} == {"application/x-protobuf"}


def test_content_is_in_the_traces_where_it_was_asked_for_and_keys_still_are_not(launch, configuration, wait_until):
    schema = {"type": "object", "properties": {"customer_id": {"type": "integer"}, "issue": {"type": "string"}}}
    with Collector() as collector:
        observability = traced(
            collector, includeContent=True, inputAttributes=["customer_id"], otlp={"samplePercent": 0}
        )
        agent = {"instructions": INSTRUCTIONS, "input": {"schema": schema}}
        config = configuration(agent=agent, model=model(), observability=observability)
        service = launch(config, model="401", secrets=secrets(), environ=SOON)
        value = {"customer_id": 7, "issue": f"{PROMPT} {KEY}"}
        assert service.run(value).status_code == 502, "of these nothing is sampled"
        assert service.run(value, headers=TRACED).status_code == 502, "but the caller's decision counts"
        (request,) = wait_until(lambda: collector.named("POST /v1/run"))
        wait_until(lambda: collector.named("invoke_agent support"))
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert request.attributes["agentservice.input.customer_id"] == 7
    assert {"agentservice.input.issue"}.isdisjoint(request.attributes)
    for shown in (PROMPT, INSTRUCTIONS, "failed for"):
        assert shown in collector.text
    assert KEY not in collector.text


WITH_LOGFIRE = f"""
import contextlib
import logfire
from pydantic_ai import Agent

agent = Agent(instructions="{INSTRUCTIONS}", name="mine")

@agent.tool_plain
def look(x: int) -> str:
    with logfire.span("look up", customer_id=7):
        pass
    with contextlib.suppress(RuntimeError), logfire.span("risk"):
        raise RuntimeError("canary-exception-7")
    return "canary-found-7"
"""


def test_logfire_gets_the_same_traces_with_its_token_and_user_spans_of_its_own(launch, configuration, wait_until):
    with Collector() as collector:
        observability = {"logfire": {"tokenFrom": {"secretKeyRef": {"name": "otel", "key": "token"}}}}
        config = configuration(agent={"entrypoint": "mine:agent"}, model=model(), observability=observability)
        environ = {**SOON, "LOGFIRE_BASE_URL": collector.url}
        service = launch(
            config,
            model="tool",
            secrets={**secrets(), "otel/token": TOKEN},
            code={"mine.py": WITH_LOGFIRE},
            environ=environ,
        )
        assert service.run(PROMPT, headers=TRACED).status_code == 200
        wait_until(lambda: collector.named("POST /v1/run"))
        service.signal(signal.SIGTERM)
        assert service.exit_code() == 0
        found = of_trace(collector)
    assert found["look up"][0].parent == found["execute_tool look"][0].id
    assert {headers["authorization"] for headers in collector.headers} == {TOKEN}
    for canary in (PROMPT, INSTRUCTIONS, KEY, TOKEN, "canary-found-7", "canary-exception-7"):
        assert canary not in collector.text, canary


def test_a_collector_that_hangs_costs_no_request_and_holds_nobody_up(launch, configuration, wait_until):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = configuration(observability={"otlp": {"endpoint": endpoint}})
        agent = launch(config, environ={**SOON, "OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"})
        # the bounded queue holds 16 of their spans
        assert {agent.run("x").status_code for _ in range(30)} == {200}
        lost = re.compile(r'agentservice_trace_spans_total\{agent_name="support",outcome="lost"\} [1-9]')
        wait_until(lambda: lost.search(agent.client.get("/metrics").text))
        assert [line["level"] for line in agent.lines() if "traces are lost" in line["message"]] == ["warning"]
        assert not [line for line in agent.lines() if line["logger"].startswith("opentelemetry")]
        agent.signal()
        assert agent.exit_code(60) == 0, "before the grace period ends"


def test_a_task_goes_on_in_the_trace_of_the_request_that_it_was(
    installed, launch, configuration, provider, collector, wait_until
):
    with RedisServer() as redis:
        url = {"secretKeyRef": {"name": "store", "key": "url"}}
        queue = {"redisUrl": url, "uid": uuid.uuid4().hex}
        config = configuration(model=model(), queue=queue, observability=traced(collector))
        agent = launch(config, model="as-asked", secrets={**secrets(), "store/url": redis.url}, environ=SOON)
        trace = uuid.uuid4().hex
        asked = {"traceparent": f"00-{trace}-{CALLER}-01"}
        task = agent.client.post("/v1/tasks", json={"input": "hello"}, headers=asked).json()
        ended = agent.client.get(f"{task['check_url']}?wait=30").json()
        assert ended["status"] == "succeeded", ended
        wait_until(lambda: [s for s in collector.named("process task") if s.trace_id == trace])
        found = {span.name: span for span in collector.spans if span.trace_id == trace}
        attempt = found["process task"]
        assert (attempt.kind, attempt.parent) == (CONSUMER, found["POST /v1/tasks"].id)
        assert (attempt.attributes["agentservice.task_id"], attempt.attributes["agentservice.attempt"]) == (
            task["task_id"],
            1,
        )
        assert (attempt.attributes["agentservice.run_id"], attempt.attributes["agentservice.status"]) == (
            ended["result"]["run_id"],
            "success",
        )
        assert provider.state()["traceparents"][-1].split("-")[1] == trace
        (line,) = [line for line in agent.lines("run") if line["run_id"] == ended["result"]["run_id"]]
        assert line["trace_id"] == trace


def test_the_steps_of_a_runs_cache_are_in_its_trace(installed, launch, configuration, collector, wait_until):
    with RedisServer() as redis:
        url = {"secretKeyRef": {"name": "store", "key": "url"}}
        cache = {"redisUrl": url, "ttlSeconds": 60, "scope": "Shared", "uid": uuid.uuid4().hex}
        config = configuration(model=model(), cache=cache, observability=traced(collector))
        agent = launch(config, model="as-asked", secrets={**secrets(), "store/url": redis.url}, environ=SOON)
        trace = uuid.uuid4().hex
        answer = agent.run("hello", headers={"traceparent": f"00-{trace}-{CALLER}-01"})
        assert answer.json()["cache"] == "miss"
        wait_until(lambda: [s for s in collector.named("POST /v1/run") if s.trace_id == trace])
        steps = [s for s in collector.spans if s.trace_id == trace and s.attributes.get("db.system") == "redis"]
        assert {step.kind for step in steps} == {CLIENT}


DATABASES = f"""
import os
import asyncpg
import httpx
from pydantic_ai import Agent
from sqlalchemy import create_engine, text

agent = Agent(instructions="{INSTRUCTIONS}", name="mine")
engine = create_engine("sqlite://")

@agent.tool_plain
async def look(x: int) -> str:
    with engine.connect() as connection:
        connection.execute(text("select :given as by_engine"), {{"given": "canary-parameter-7"}})
    connection = await asyncpg.connect(os.environ["DATABASE"])
    await connection.fetch("select $1 as by_driver", "canary-parameter-7")
    await connection.close()
    async with httpx.AsyncClient() as client:
        await client.get(os.environ["SITE"] + "?q=canary-query-7")
    return "found"
"""


def test_what_a_tool_asks_databases_and_sites_is_in_its_runs_trace(
    launch, configuration, collector, wait_until, provider
):
    at_hand(Need.POSTGRES)
    with PostgresServer(password="canary-password-7") as database:
        service = launch(
            configuration(agent={"entrypoint": "mine:agent"}, model=model(), observability=traced(collector)),
            model="tool",
            secrets=secrets(),
            code={"mine.py": DATABASES},
            environ={**SOON, "DATABASE": database.url, "SITE": f"{provider.url}/state"},
        )
        trace = uuid.uuid4().hex
        answer = service.run("hello", headers={"traceparent": f"00-{trace}-{CALLER}-01"})
        assert answer.status_code == 200, answer.text
        wait_until(lambda: [s for s in collector.named("POST /v1/run") if s.trace_id == trace])
    spans = [span for span in collector.spans if span.trace_id == trace]
    (tool,) = [span for span in spans if span.name == "execute_tool look"]
    asked = {
        span.attributes.get("db.statement") or span.name
        for span in spans
        if span.kind == CLIENT and span.parent == tool.id
    }
    assert {"select ? as by_engine", "select $1 as by_driver", "GET"} <= asked
    for canary in ("canary-password-7", "canary-parameter-7", "canary-query-7"):
        assert canary not in collector.text, canary
