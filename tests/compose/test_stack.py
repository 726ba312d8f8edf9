"""The stack without Kubernetes, as containers: spread, spared a dead agent, one budget, one door, seen by Prometheus."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from .conftest import DAILY_TOKENS, secrets
from .stack import AGENTS, EXAMPLE, Answer, Passed, Stack, until

CALLERS = 6
MINE = ("compose/agent.yaml", "compose/compose.yaml")
"""Of the examples, what is brought up here."""


def run(stack: Stack, text: str, **headers: str) -> Answer:
    """One run through nginx, of a question that nobody has asked before."""
    return stack.ask("POST", "/v1/run", {"input": f"{text} {uuid.uuid4()}"}, headers=headers)


def test_without_a_secret_compose_says_which_one_and_what_to_do(stack: Stack):
    for name in secrets():
        refused = stack.compose("config", without=name)
        assert refused.returncode != 0
        said = refused.stdout + refused.stderr
        assert name in said
        assert "copy .env.example to .env and fill it in" in said


def test_two_hundred_runs_are_spread_over_the_three_agents(stack: Stack):
    before = {agent: stack.runs(agent) for agent in AGENTS}
    statuses = Counter(run(stack, "Hello").status for _ in range(200))
    assert statuses == {200: 200}
    served = {agent: stack.runs(agent) - before[agent] for agent in AGENTS}
    assert sum(served.values()) == 200
    # a third is 66; who is a moment slower gets a little less
    assert min(served.values()) >= 50, served


def test_a_stream_comes_through_as_it_is_made_and_hanging_up_ends_it_at_the_model(stack: Stack):
    connection = http.client.HTTPConnection(stack.settings["LISTEN"], timeout=60)
    headers = {"Authorization": f"Bearer {stack.settings['AGENT_TOKEN']}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/stream", json.dumps({"input": f"Stream {uuid.uuid4()}"}), headers)
    answer = connection.getresponse()
    assert answer.status == 200
    seen = b""
    while b"word1" not in seen:
        seen += answer.read1()
    # twenty words take ten seconds at the model, so what has come was held back by nobody
    assert b"word19" not in seen
    assert stack.model()["in_flight"] == 1
    connection.close()
    until(lambda: stack.model()["in_flight"] == 0, what="the model's stream ends with its caller")


def test_a_conversation_goes_on_whichever_agent_is_asked(stack: Stack):
    name = f"c-{uuid.uuid4()}"
    for turn in range(3):
        answer = stack.ask("POST", "/v1/run", {"input": f"Turn {turn}", "conversation_id": name})
        assert answer.status == 200, answer.body
    known = stack.ask("GET", f"/v1/conversations/{name}")
    assert known.status == 200
    assert [f"Turn {turn}" in known.body.decode() for turn in range(3)] == [True] * 3


def test_an_answer_is_given_again_by_another_agent(stack: Stack):
    question = {"input": f"What is new? {uuid.uuid4()}"}
    first, *later = (stack.ask("POST", "/v1/run", question) for _ in range(4))
    assert first.headers["x-cache"] == "MISS"
    assert [answer.headers["x-cache"] for answer in later] == ["HIT"] * 3


def test_a_task_that_was_sent_twice_is_one_task(stack: Stack):
    asked: dict[str, Any] = {"body": {"input": "Once"}, "headers": {"Idempotency-Key": str(uuid.uuid4())}}
    ids = {stack.ask("POST", "/v1/tasks", **asked).document["task_id"] for _ in range(4)}
    (task,) = ids

    def has_succeeded() -> bool:
        return stack.ask("GET", f"/v1/tasks/{task}?wait=30").document["status"] == "succeeded"

    until(has_succeeded, what="the task succeeds")


def test_metrics_and_callers_without_a_token_do_not_pass_the_door(stack: Stack):
    assert stack.ask("GET", "/metrics").status == 404
    assert stack.ask("GET", "/v1/models", headers={"Authorization": "Bearer wrong"}).status == 401


def is_given_runs(stack: Stack, agent: str) -> bool:
    """Ask once through nginx, and see whether it sends runs to one agent."""
    before = len(stack.passed())
    assert run(stack, "Hello").status == 200
    return any(line.asked == (stack.address(agent),) and line.status == 200 for line in stack.passed()[before:])


@dataclass
class Load:
    """What callers were answered who ask all the time."""

    answers: list[tuple[str, str, Answer | None]] = field(default_factory=list[tuple[str, str, "Answer | None"]])
    """Path, id, and the answer; None where none came."""

    def since(self, count: int) -> int:
        return len(self.answers) - count

    def failed(self, path: str) -> list[tuple[str, Answer | None]]:
        return [
            (ident, answer)
            for asked, ident, answer in self.answers
            if asked == path and (answer is None or answer.status not in (200, 202))
        ]


@contextmanager
def callers(stack: Stack) -> Iterator[Load]:
    """Callers who ask for models, runs and tasks in turn until the end; each task has a key, and after the first a kept answer."""
    load, ending = Load(), threading.Event()

    def ask(path: str, ident: str) -> Answer | None:
        asked: dict[str, Callable[[], Answer]] = {
            "/v1/models": lambda: stack.ask("GET", "/v1/models"),
            "/v1/run": lambda: run(stack, "Hello", **{"X-Run-Id": ident}),
            "/v1/tasks": lambda: stack.ask(
                "POST", "/v1/tasks", {"input": "A task"}, headers={"Idempotency-Key": ident}
            ),
        }
        try:
            return asked[path]()
        except (OSError, http.client.HTTPException):
            return None

    def keep_asking() -> None:
        for path in itertools.cycle(("/v1/models", "/v1/run", "/v1/models", "/v1/tasks")):
            if ending.wait(0.05):
                return
            ident = str(uuid.uuid4())
            load.answers.append((path, ident, ask(path, ident)))

    threads = [threading.Thread(target=keep_asking) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def check_is_gone(answer: Answer | None) -> None:
    """What is said of a run that an agent had when it ended: in the agents' own shape, and not to be repeated by a client's library."""
    assert answer is not None
    assert (answer.status, answer.headers["content-type"]) == (502, "application/problem+json")
    assert (answer.document["category"], answer.document["retryable"]) == ("internal", False)
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers


def check_lost(stack: Stack, load: Load, *, to: str, lines: list[Passed]) -> None:
    """Nothing failed but runs that one agent had been sent: no run reaches a second one, for it might be done twice."""
    assert {path: load.failed(path) for path in ("/v1/models", "/v1/tasks")} == {"/v1/models": [], "/v1/tasks": []}
    by_id = {line.run_id: line for line in lines if line.path == "/v1/run"}
    assert [line for line in by_id.values() if sum(line.reached) > 1] == []
    lost = load.failed("/v1/run")
    assert len(lost) <= CALLERS
    for ident, answer in lost:
        check_is_gone(answer)
        assert by_id[ident].asked[-1] == stack.address(to)
        assert by_id[ident].reached[-1]


@pytest.mark.parametrize(
    ("agent", "method", "path", "status"),
    [
        ("agent-1", "GET", "/v1/models", 200),
        ("agent-2", "POST", "/v1/tasks", 202),
        ("agent-3", "POST", "/v1/run", None),
    ],
)
def test_what_a_killed_agent_had_goes_to_another_unless_it_might_be_done_twice(
    stack: Stack, agent: str, method: str, path: str, status: int | None
):
    container, earlier = stack.container(agent), len(stack.passed())

    def ask() -> Answer:
        body = {"input": f"Hello {uuid.uuid4()}"} if method == "POST" else None
        return stack.ask(method, path, body, headers={"Idempotency-Key": str(uuid.uuid4())} if status == 202 else {})

    # it takes connections, and answers nothing
    stack.engine("kill", "--signal", "STOP", container)
    with ThreadPoolExecutor(max_workers=6) as pool:
        asked = [pool.submit(ask) for _ in range(6)]
        until(lambda: sum(one.done() for one in asked) >= 4, what="the two others answer")
        stack.engine("kill", "--signal", "KILL", container)
        answers = [one.result() for one in asked]
    lines = [line for line in stack.passed()[earlier:] if line.path == path]
    held = [line for line in lines if stack.address(agent) in line.asked]
    assert 1 <= len(held) <= 2
    assert all(line.reached[0] for line in held)
    if status is not None:
        assert [answer.status for answer in answers] == [status] * 6
        assert all(len(line.asked) > 1 for line in held)
    else:
        lost = [answer for answer in answers if answer.status != 200]
        assert len(lost) == len(held)
        assert [line.asked for line in held] == [(stack.address(agent),)] * len(lost)
        for answer in lost:
            check_is_gone(answer)

    stack.engine("start", container)
    until(lambda: stack.is_ready(agent), what=f"{agent} is ready again")
    until(lambda: is_given_runs(stack, agent), what=f"{agent} serves again")


def test_an_agent_that_is_killed_costs_no_request_that_could_be_passed_on_and_serves_again_when_it_is_back(
    stack: Stack,
):
    dead, container = "agent-2", stack.container("agent-2")
    earlier = len(stack.passed())
    with callers(stack) as load:
        until(lambda: load.since(0) >= 60, what="the load is under way")
        stack.engine("kill", "--signal", "KILL", container)
        killed = load.since(0)
        until(lambda: load.since(killed) >= 120, what="the two others serve")
    check_lost(stack, load, to=dead, lines=stack.passed()[earlier:])

    def is_passed_on() -> bool:
        """Every five seconds one request is offered to the dead one; it is answered by another."""
        before = len(stack.passed())
        assert run(stack, "Hello").status == 200
        offered = [line for line in stack.passed()[before:] if len(line.asked) > 1]
        assert not any(line.reached[0] for line in offered)
        return bool(offered)

    until(is_passed_on, what="a run is passed on that the dead one does not take")
    stack.engine("start", container)
    until(lambda: stack.is_ready(dead), what=f"{dead} is ready again")
    until(lambda: is_given_runs(stack, dead), what=f"{dead} serves again")


def test_an_agent_that_is_stopped_and_started_again_finishes_what_it_has_begun(stack: Stack):
    earlier = len(stack.passed())
    with callers(stack) as load:
        until(lambda: load.since(0) >= 60, what="the load is under way")
        stack.engine("stop", "--time", "60", stack.container("agent-3"))
        stopped = load.since(0)
        until(lambda: load.since(stopped) >= 60, what="the two others serve")
        stack.engine("start", stack.container("agent-3"))
        until(lambda: stack.is_ready("agent-3"), what="agent-3 is ready again")
        until(lambda: is_given_runs(stack, "agent-3"), what="agent-3 serves again")
    # a run may meet a connection in the moment in which it is closed
    check_lost(stack, load, to="agent-3", lines=stack.passed()[earlier:])


def test_prometheus_has_series_of_each_agent_and_our_rules(stack: Stack):
    everyone = set(AGENTS)
    until(lambda: set(stack.query("up == 1")) == everyone, what="Prometheus reaches all three")
    until(
        lambda: run(stack, "Hello").status == 200 and set(stack.query("pydantic_ai_requests_total > 0")) == everyone,
        what="all three have series",
    )
    groups = stack.ask("GET", "/api/v1/rules", to=stack.settings["PROMETHEUS_LISTEN"]).document["data"]["groups"]
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert {"AgentRunsFail", "agentservice:runs:rate5m"} <= set(rules)
    assert "err" not in rules.values()
    until(lambda: bool(stack.query("agentservice:runs:rate5m")), what="a recorded series has values")


def test_grafana_is_given_a_dashboard_that_exists():
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    mounted = [volume.split(":") for volume in compose["services"]["grafana"]["volumes"] if volume.startswith(".")]
    assert all((EXAMPLE / source).exists() for source, *_ in mounted)
    (provider,) = yaml.safe_load((EXAMPLE / "grafana" / "dashboards" / "agents.yml").read_text())["providers"]
    (dashboard,) = (
        EXAMPLE / source for source, target, *_ in mounted if target.startswith(provider["options"]["path"])
    )
    assert json.loads(dashboard.read_text())["uid"] == "agentservice-agent"


def test_one_budget_in_redis_holds_over_all_three(stack: Stack):
    """Nothing is left of the day's tokens for tests after this one."""
    long = "word " * 4_000
    refused: set[str] = set()
    while refused != set(AGENTS):
        refused = set()
        for agent in AGENTS:
            answer = stack.ask("POST", "/v1/run", {"input": f"{long} {uuid.uuid4()}"}, to=stack.address(agent))
            assert answer.status in (200, 429), answer.body
            if answer.status == 429:
                assert answer.document["category"] == "budget"
                assert int(answer.headers["retry-after"]) > 0
                refused.add(agent)
    (billed,) = stack.model()["billed"].values()
    used = billed["prompt_tokens"] + billed["completion_tokens"]
    assert 0.8 * DAILY_TOKENS <= used <= DAILY_TOKENS


def test_no_container_has_written_a_secret_into_its_log(stack: Stack):
    values = [stack.settings[name] for name in secrets()]
    for service in (*AGENTS, "nginx", "redis", "postgres", "prometheus", "model"):
        said = stack.logs(service)
        assert [value for value in values if value in said] == []
