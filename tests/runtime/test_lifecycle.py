"""From start to exit: what is refused at start, what the pod says meanwhile, and how it stops."""

from __future__ import annotations

import signal
import socket
import threading
import time

import httpx2
import pytest


def test_a_configuration_that_cannot_be_used_ends_with_78_and_one_line(launch, configuration):
    agent = launch(configuration(agent={"entrypoint": "nowhere.at_all:agent"}), wait=False)
    assert agent.exit_code(90) == 78
    (line,) = agent.stderr().splitlines()
    assert line.startswith("spec.agent.entrypoint: there is no module 'nowhere'")
    assert (agent.folder / "termination-log").read_text() == line
    assert agent.stdout() == ""


def test_a_taken_port_is_said_in_one_line(launch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent = launch(wait=False, port=taken.getsockname()[1])
        assert agent.exit_code(90) == 1
        (line,) = agent.stderr().splitlines()
        assert str(taken.getsockname()[1]) in line
        assert "Address already in use" in line


def test_a_pod_without_its_key_is_not_ready_until_it_has_it_and_stays_ready_without(launch, configuration):
    key = {"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    agent = launch(configuration(model={"name": "x", **key}), model="echo")
    answer = agent.client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["Secret openai has no value for key api-key"]
    assert agent.client.get("/health").status_code == 200
    agent.secret("openai", "api-key", "sk-1234567")
    assert agent.client.get("/ready").status_code == 200
    (agent.folder / "secrets/openai/api-key").unlink()
    assert agent.client.get("/ready").status_code == 200
    assert agent.run("x").status_code == 200


def test_sigterm_makes_it_not_ready_finishes_runs_and_streams_and_ends_with_0(launch, events, wait_until):
    agent = launch(model="as-asked")
    results: dict[str, object] = {}

    def stream() -> None:
        results["stream"] = httpx2.post(f"{agent.url}/v1/stream", json={"input": "stream-40-100"}, timeout=30).text

    def run() -> None:
        results["run"] = httpx2.post(f"{agent.url}/v1/run", json={"input": "slow-3000"}, timeout=30).status_code

    threads = [threading.Thread(target=stream), threading.Thread(target=run)]
    for thread in threads:
        thread.start()
    wait_until(lambda: 'active_requests{agent_name="support"} 2.0' in agent.client.get("/metrics").text)
    agent.signal()
    time.sleep(0.2)
    fresh = httpx2.get(f"{agent.url}/ready")
    assert fresh.status_code == 503
    assert fresh.json()["reasons"] == ["stopping"]
    late = httpx2.post(f"{agent.url}/v1/run", json={"input": "late"}, timeout=30)
    assert late.status_code == 200, "endpoints lag: requests still come"
    assert late.headers["connection"] == "close"
    for thread in threads:
        thread.join(20)
    assert agent.exit_code() == 0
    found = events(str(results["stream"]))
    assert [name for name, _ in found] == ["delta"] * 40 + ["result"]
    assert results["run"] == 200


def test_runs_that_outlast_the_drain_are_told_to_come_again(launch, configuration, events, wait_until):
    config = configuration(serving={"concurrencyPerPod": 8, "drainTimeoutSeconds": 4})
    agent = launch(config, model="as-asked")
    results = {}

    def call(path: str, command: str) -> None:
        results[path] = httpx2.post(f"{agent.url}{path}", json={"input": command}, timeout=30)

    threads = [threading.Thread(target=call, args=a) for a in (("/v1/run", "hang"), ("/v1/stream", "stream-100-100"))]
    for thread in threads:
        thread.start()
    wait_until(lambda: 'active_requests{agent_name="support"} 2.0' in agent.client.get("/metrics").text)
    agent.signal()
    for thread in threads:
        thread.join(20)
    assert agent.exit_code() == 0
    run = results["/v1/run"]
    assert (run.status_code, run.json()["category"], run.headers["retry-after"]) == (503, "overloaded", "1")
    found = events(results["/v1/stream"].text)
    assert found[-1][0] == "error"
    assert found[-1][1]["category"] == "overloaded"
    assert found[-1][1]["run_id"] == results["/v1/stream"].headers["x-run-id"]
    assert [line["category"] for line in agent.lines("run")] == ["overloaded"] * 2


def test_code_that_blocks_everything_cannot_hold_the_process(launch, configuration):
    code = {"mine.py": "import time\nasync def block(x: int) -> str:\n    time.sleep(60)\n    return 'x'\n"}
    config = configuration(
        agent={"instructions": "x", "tools": ["mine:block"]},
        serving={"concurrencyPerPod": 8, "drainTimeoutSeconds": 2},
    )
    agent = launch(config, model="tool", code=code)
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{agent.url}/v1/run", json={"input": "x"}, timeout=3)
    began = time.monotonic()
    agent.signal()
    assert agent.exit_code() == 0 or time.monotonic() - began > 2


def test_ctrl_c_ends_at_once_when_nothing_runs(launch):
    agent = launch()
    began = time.monotonic()
    agent.signal(signal.SIGINT)
    assert agent.exit_code() == 0
    assert time.monotonic() - began < 10  # and not the drain, or the 5 minutes of a run


DEPS = """
from contextlib import asynccontextmanager
from pydantic_ai import RunContext

class Pool:
    def __init__(self):
        self.runs = 0

@asynccontextmanager
async def infrastructure():
    print("opened", flush=True)
    yield Pool()
    print("closed", flush=True)

async def coroutine():
    return Pool()

def function():
    return Pool()

def count(ctx: RunContext[Pool], x: int) -> str:
    ctx.deps.runs += 1
    return f"{id(ctx.deps)} {ctx.deps.runs}"

def environment(ctx: RunContext, x: int) -> str:
    ctx.deps.logger.info("from the agent")
    return f"{ctx.deps.environment} {ctx.deps.database_url}"

async def from_environment():
    import os
    return os.environ["ANALYST_URL"]

async def failing():
    raise ConnectionError("postgresql://user:canary-password@db")
"""


def test_deps_are_built_once_and_closed_after_the_drain(launch, configuration, provider):
    agent = {"instructions": "x", "tools": ["mine:count"], "deps": "mine:infrastructure"}
    pod = launch(configuration(agent=agent), model="tool", code={"mine.py": DEPS})
    provider.forget()
    for _ in range(5):
        assert pod.run("x").status_code == 200
    answers = [m["content"] for b in provider.state()["bodies"] for m in b["messages"] if m["role"] == "tool"]
    assert [a.split()[1] for a in answers] == ["1", "2", "3", "4", "5"]
    assert len({a.split()[0] for a in answers}) == 1
    assert pod.stdout().count("opened") == 1
    assert "closed" not in pod.stdout()
    pod.signal()
    assert pod.exit_code() == 0
    assert pod.stdout().count("closed") == 1


@pytest.mark.parametrize("attribute", ["coroutine", "function"])
def test_deps_may_be_a_coroutine_function_or_a_function(launch, configuration, attribute):
    agent = {"instructions": "x", "tools": ["mine:count"], "deps": f"mine:{attribute}"}
    pod = launch(configuration(agent=agent), model="tool", code={"mine.py": DEPS})
    assert pod.run("x").status_code == 200


def test_default_deps_come_from_the_environment(launch, configuration, provider):
    agent = {"instructions": "x", "tools": ["mine:environment"]}
    environ = {"ENVIRONMENT": "staging", "DATABASE_URL": "postgresql://db"}
    pod = launch(configuration(agent=agent), model="tool", code={"mine.py": DEPS}, environ=environ)
    provider.forget()
    assert pod.run("x").status_code == 200
    answers = [m["content"] for b in provider.state()["bodies"] for m in b["messages"] if m["role"] == "tool"]
    assert answers == ["staging postgresql://db"]
    assert pod.lines("from the agent")


def test_deps_that_cannot_be_built_end_the_process_without_their_message(launch, configuration):
    agent = {"instructions": "x", "deps": "mine:failing"}
    pod = launch(configuration(agent=agent), code={"mine.py": DEPS}, wait=False)
    assert pod.exit_code(90) == 1
    (line,) = pod.stderr().splitlines()
    assert "spec.agent.deps" in line
    assert "ConnectionError" in line
    assert "mine.py" in line
    assert "canary-password" not in pod.stderr() + pod.stdout()
    assert (pod.folder / "termination-log").read_text() == line


def test_deps_without_their_environment_variable_name_it(launch, configuration):
    agent = {"instructions": "x", "deps": "mine:from_environment"}
    pod = launch(configuration(agent=agent), code={"mine.py": DEPS}, wait=False)
    assert pod.exit_code(90) == 1
    assert "the environment variable ANALYST_URL is not set: add it to spec.runtime.env" in pod.stderr()
