"""Every example, applied as a person would, answers on real pods."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from devcluster.settings import REPOSITORY

from .pods.agents import Agent
from .pods.kube import ApiError, Kube, condition, is_pod_ready, secret
from .shipped import EXAMPLES, run

POOL_SIZE = 5
"""Of examples/data-analyst/acme/infrastructure.py."""


@pytest.fixture(scope="module")
def namespace(kube: Kube, manifest: Callable[[str], str]) -> Iterator[str]:
    """A namespace under Pod Security `restricted`, with the stand-in for a model provider in it."""
    name = f"examples-{uuid.uuid4().hex[:6]}"
    kube.kubectl("create", "namespace", name)
    kube.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kube.kubectl("-n", name, "apply", "-f", "-", stdin=manifest("model-server"))
    kube.kubectl("-n", name, "rollout", "status", "deployment/model-server", "--timeout=180s")
    yield name
    kube.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def applied(kube: Kube, namespace: str, manifest: Callable[[str], str]) -> Callable[[str], Agent]:
    """Apply an example and wait until its agent is Ready."""

    def apply(path: str) -> Agent:
        text = manifest(path)
        kube.kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
        (name,) = (
            d["metadata"]["name"] for d in yaml.safe_load_all(text) if d["kind"] in {"AgentService", "Deployment"}
        )
        if "kind: AgentService" in text:
            return Agent(kube=kube, namespace=namespace, name=name).wait_ready(seconds=180)
        kube.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=180s")
        return Agent(kube=kube, namespace=namespace, name=name)

    return apply


def test_hello_answers(applied: Callable[[str], Agent]):
    status, answer = run(applied("hello.yaml"), "Are you there?")
    assert status == 200
    assert answer["model"] == "test"
    assert "Are you there?" in answer["output"]


def test_a_fallback_answers_while_the_first_models_provider_is_down(applied: Callable[[str], Agent]):
    steadfast = applied("fallbacks.yaml")
    status, answer = run(steadfast, "Are you there?")
    assert (status, answer["model"]) == (200, "openai-chat:stand-in")
    # the node is small, and others need its room
    steadfast.kube.kubectl("-n", steadfast.namespace, "delete", "ags", steadfast.name)


@pytest.fixture(scope="module")
def support(applied: Callable[[str], Agent]) -> Agent:
    return applied("support.yaml")


def test_a_typed_request_gets_a_typed_answer(support: Agent):
    status, answer = run(support, {"customer_id": 42, "issue": "My order never came", "priority": "high"})
    assert status == 200
    declared = yaml.safe_load((EXAMPLES / "support.yaml").read_text().partition("\n---")[0])
    jsonschema.validate(answer["output"], declared["spec"]["agent"]["outputSchema"])
    assert answer["output"]["escalated"] is False
    assert answer["usage"]["total_tokens"] > 0


def test_a_critical_issue_is_escalated(support: Agent):
    _, answer = run(support, {"customer_id": 42, "issue": "The shop is down", "priority": "critical"})
    assert answer["output"]["escalated"] is True


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"issue": "x"}, "input.customer_id"),
        ({"customer_id": "42", "issue": "x"}, "input.customer_id"),
        ({"customer_id": 42, "issue": "x", "priority": "urgent"}, "input.priority"),
    ],
)
def test_a_wrong_request_is_answered_422_with_the_name_of_the_field(support: Agent, content: Any, field: str):
    status, problem = run(support, content)
    assert status == 422
    assert [error["path"] for error in problem["errors"]] == [field]
    assert problem["category"] == "validation"


def test_a_budget_is_served_until_it_is_used_up_and_goes_on_when_it_is_raised(
    applied: Callable[[str], Agent], manifest: Callable[[str], str], kube: Kube, namespace: str
):
    thrifty = applied("budget.yaml")
    used = 0
    problem: dict[str, Any] = {"retryable": True}
    with ThreadPoolExecutor(max_workers=8) as callers:
        for answers in (list(callers.map(lambda n: run(thrifty, f"Question {n}?"), range(40))) for _ in range(20)):
            used += sum(answer["usage"]["total_tokens"] for status, answer in answers if status == 200)
            if any(status != 200 for status, _ in answers):
                break
    while problem["retryable"]:  # only requests in flight stood in the way
        status, problem = run(thrifty, "Once more?")
        assert status in (200, 429)
        used += problem["usage"]["total_tokens"] if status == 200 else 0
        problem.setdefault("retryable", True)
    assert used <= 20_000
    assert (problem["category"], problem["retry_after"] > 1) == ("budget", True)
    kube.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest("budget.yaml").replace("20000", "40000"))
    deadline = time.monotonic() + 10
    while run(thrifty, "And now?")[0] != 200:
        assert time.monotonic() < deadline, "the raised limit is not in force"
    assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in thrifty.pods())
    kube.kubectl(
        "-n", namespace, "delete", "ags", thrifty.name
    )  # a node of two cores has no room for every example at once


def test_a_cached_answer_is_given_again_until_it_is_purged(applied: Callable[[str], Agent]):
    redis = applied("redis/redis.yaml")
    shop = applied("cache.yaml")

    def ask() -> dict[str, Any]:
        status, answer = run(shop, "When do you open?")
        assert status == 200
        return answer

    def until_it_is_a_hit() -> dict[str, Any]:
        deadline = time.monotonic() + 120
        while (answer := ask())["cache"] != "hit":
            assert time.monotonic() < deadline, "no answer was kept"
        return answer

    first = ask()
    assert first["cache"] == "miss"
    again = until_it_is_a_hit()
    assert (again["output"], again["usage"]["total_tokens"]) == (first["output"], 0)
    path = f"/api/v1/namespaces/{shop.namespace}/services/{shop.name}:80/proxy/v1/cache?tag=opening-hours"
    assert json.loads(shop.kube.request("DELETE", path)) == {"purged": "tag"}
    assert ask()["cache"] == "miss"
    until_it_is_a_hit()
    redis.kube.kubectl("-n", redis.namespace, "delete", "ags,deploy", shop.name, redis.name, "--ignore-not-found")


def ended_task(agent: Agent, text: str) -> dict[str, Any]:
    """Submit a task and return it once it has ended."""
    path = f"/api/v1/namespaces/{agent.namespace}/services/{agent.name}:80/proxy/v1/tasks"
    taken_in = json.loads(agent.kube.request("POST", path, body={"input": text}))
    assert taken_in["status"] == "queued"
    deadline = time.monotonic() + 180
    while not (task := json.loads(agent.kube.request("GET", f"{path}/{taken_in['task_id']}")))["finished_at"]:
        assert time.monotonic() < deadline, f"the task has not ended: {task}"
        time.sleep(0.5)
    return task


def test_a_task_is_taken_in_and_answered_later_whichever_pod_is_asked(applied: Callable[[str], Agent]):
    redis = applied("redis/redis.yaml")
    reports = applied("tasks.yaml")
    task = ended_task(reports, "Sum up the year")
    assert (task["status"], task["attempts"]) == ("succeeded", 1)
    assert task["result"]["output"]
    redis.kube.kubectl("-n", redis.namespace, "delete", "ags,deploy", reports.name, redis.name, "--ignore-not-found")


def test_tasks_are_worked_off_by_pods_of_their_own(applied: Callable[[str], Agent], kube: Kube, namespace: str):
    redis = applied("redis/redis.yaml")
    kube.apply(secret(namespace, "redis-queue", url="redis://:example-password@redis:6379/0"))
    workers = applied("workers.yaml")
    task = ended_task(workers, "Sum up the year")
    assert (task["status"], task["attempts"]) == ("succeeded", 1)
    said = condition(workers.live(), "ScalingActive")
    assert (said["status"], said["reason"]) == ("False", "KEDAMissing")
    kube.kubectl("-n", namespace, "delete", "ags,deploy", workers.name, redis.name, "--ignore-not-found")


def test_a_task_keeps_its_steps_in_a_database_and_forgets_them_with_its_end(applied: Callable[[str], Agent]):
    redis, postgres = applied("redis/redis.yaml"), applied("data-analyst/postgres.yaml")
    researcher = applied("durable-steps.yaml")
    task = ended_task(researcher, "What has changed?")
    assert (task["status"], task["attempts"]) == ("succeeded", 1)
    assert task["result"]["output"]
    count = "PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U analyst -d sales -Atc 'select count(*) from agentservice_steps'"
    ask = ("-n", postgres.namespace, "exec", "deploy/postgres", "--", "sh", "-c", count)
    deadline = time.monotonic() + 120
    while (rows := postgres.kube.kubectl(*ask).split()[-1]) != "0":
        assert time.monotonic() < deadline, f"{rows} steps are left"
        time.sleep(0.5)
    names = (researcher.name, redis.name, postgres.name)
    postgres.kube.kubectl("-n", postgres.namespace, "delete", "ags,deploy", *names, "--ignore-not-found")


@pytest.mark.parametrize(
    ("example", "content"),
    [("tracing.yaml", {"customer_id": 42, "issue": "My order never came"}), ("logfire.yaml", "Are you there?")],
)
def test_an_agent_answers_whose_traces_nobody_takes(applied: Callable[[str], Agent], example: str, content: Any):
    traced = applied(example)
    assert run(traced, content)[0] == 200
    traced.kube.kubectl("-n", traced.namespace, "delete", "ags", traced.name)


def test_a_conversation_in_a_database_is_known_to_every_pod_until_it_is_forgotten(applied: Callable[[str], Agent]):
    postgres = applied("data-analyst/postgres.yaml")
    companion = applied("conversations.yaml")
    path = f"/api/v1/namespaces/{companion.namespace}/services/{companion.name}:80/proxy/v1"

    def say(text: str) -> dict[str, Any]:
        body = {"input": text, "conversation_id": "c-1"}
        return json.loads(companion.kube.request("POST", f"{path}/run", body=body))

    for text in ("My name is Ada.", "What is my name?"):
        assert say(text)["remembered"] is True
    said = json.loads(companion.kube.request("GET", f"{path}/conversations/c-1"))["messages"]
    assert [m["content"] for m in said if m["role"] == "user"] == ["My name is Ada.", "What is my name?"]
    assert say("And now?")["usage"]["input_tokens"] > 0
    companion.kube.request("DELETE", f"{path}/conversations/c-1")
    with pytest.raises(ApiError) as gone:
        companion.kube.request("GET", f"{path}/conversations/c-1")
    assert gone.value.status == 404
    companion.kube.kubectl("-n", companion.namespace, "delete", "ags", companion.name)
    postgres.kube.kubectl("-n", postgres.namespace, "delete", "deploy", postgres.name)


def test_an_agent_whose_pods_follow_the_load_serves_and_its_autoscaler_acts(
    applied: Callable[[str], Agent], kube: Kube
):
    agent = applied("autoscaling.yaml")
    assert run(agent, "Are you there?")[0] == 200
    deadline = time.monotonic() + 120

    def able() -> str:
        scaler = json.loads(kube.kubectl("-n", agent.namespace, "get", f"hpa/{agent.name}", "-o", "json"))
        found = {c["type"]: c["status"] for c in (scaler.get("status") or {}).get("conditions") or []}
        return found.get("ScalingActive", "Unknown")

    while able() != "True":  # it needs a first measurement of the pods
        assert time.monotonic() < deadline, "the autoscaler never acted"
        time.sleep(2)
    assert agent.live()["spec"]["replicas"] == 1, "nobody writes into the specification"
    kube.kubectl("-n", agent.namespace, "delete", "ags", agent.name)


def test_a_policy_lets_allowed_callers_in_and_nothing_unlisted_out(
    applied: Callable[[str], Agent], kube: Kube, namespace: str
):
    """The model server's pod plays the caller, and what the agent may not talk to."""
    agent = applied("network.yaml")  # Ready, so the kubelet's probes pass

    def reaches(workload: str, host: str) -> bool:
        program = (
            f"import socket\nat = socket.getaddrinfo({host!r}, 80, socket.AF_INET)[0][4]\n"
            "try: socket.create_connection(at, timeout=2); print('reached')\n"
            "except OSError: print('blocked')"
        )
        said = kube.kubectl("-n", namespace, "exec", f"deployment/{workload}", "--", "python", "-c", program)
        return said.split()[-1] == "reached"

    def becomes(expected: bool, workload: str, host: str) -> None:
        deadline = time.monotonic() + 30
        while reaches(workload, host) is not expected:
            assert time.monotonic() < deadline, f"{workload} to {host}: never {expected}"
            time.sleep(0.5)

    label = ("-n", namespace, "label", "pod", "--selector=app.kubernetes.io/name=model-server")
    becomes(False, "model-server", agent.name)
    kube.kubectl(*label, "team=a")
    becomes(True, "model-server", agent.name)
    kube.kubectl(*label, "team-")
    becomes(False, "model-server", agent.name)
    assert not reaches(agent.name, "model-server"), "an address that no rule lists"
    agent.patch(
        {
            "spec": {
                "network": {
                    "policy": {
                        "allowTo": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "model-server"}}}]
                    }
                }
            }
        }
    )
    becomes(True, agent.name, "model-server")
    assert not reaches("model-server", agent.name)
    agent.patch({"spec": {"network": {"policy": {"enabled": False}}}})
    becomes(True, "model-server", agent.name)
    kube.kubectl("-n", namespace, "delete", "ags", agent.name)


@pytest.fixture(scope="module")
def postgres(applied: Callable[[str], Agent]) -> Agent:
    return applied("data-analyst/postgres.yaml")


@pytest.fixture(scope="module")
def analyst(applied: Callable[[str], Agent], postgres: Agent) -> Agent:
    return applied("data-analyst/data-analyst.yaml")


def query(postgres: Agent, sql: str) -> list[list[str]]:
    """Ask the example's PostgreSQL, inside its pod."""
    program = f'PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U analyst -d sales -tAc "{sql}"'
    told = postgres.kube.kubectl("-n", postgres.namespace, "exec", "deployment/postgres", "--", "sh", "-c", program)
    return [line.split("|") for line in told.splitlines() if line]


def sessions(postgres: Agent) -> dict[str, int]:
    """Open database sessions of each pod of the analyst."""
    sql = (
        "select application_name, count(*) from pg_stat_activity "
        "where application_name like 'data-analyst-%' group by 1"
    )
    return {pod: int(count) for pod, count in query(postgres, sql)}


def serving_pod(agent: Agent) -> str:
    (pod,) = [pod["metadata"]["name"] for pod in agent.pods() if is_pod_ready(pod)]
    return pod


def test_the_analyst_answers_from_the_database(analyst: Agent, postgres: Agent):
    status, answer = run(analyst, "What is the revenue by region?")
    assert status == 200, answer
    ((region, amount),) = query(postgres, "select region, sum(amount) from sales group by 1 order by 2 desc limit 1")
    assert region in answer["output"]["summary"]
    assert amount in answer["output"]["summary"]


def test_a_hundred_runs_share_one_pool_which_is_closed_on_sigterm(analyst: Agent, postgres: Agent):
    pod = serving_pod(analyst)
    with ThreadPoolExecutor(max_workers=25) as callers:
        answers = list(callers.map(lambda number: run(analyst, f"Question {number}: revenue by product?"), range(100)))
    assert [status for status, _ in answers] == [200] * 100
    assert sessions(postgres).keys() == {pod}
    assert 1 <= sessions(postgres)[pod] <= POOL_SIZE

    follow = [*analyst.kube.command, "-n", analyst.namespace, "logs", "--follow", pod]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as log:
        analyst.kube.delete("Pod", analyst.namespace, pod)
        told = log.communicate(timeout=60)[0]
    closed = re.search(r"database pool is closed; it opened (\d+) connections", told)
    assert closed is not None, told[-2000:]
    assert 1 <= int(closed[1]) <= POOL_SIZE
    assert pod not in sessions(postgres)
    assert "example-password" not in told


def test_every_example_is_applied():
    others = (
        "tests/cluster/test_overlays.py",
        "tests/apiserver/test_gitops.py",
        "tests/apiserver/test_operator_keda.py",
        "tests/apiserver/test_operator_secret_changes.py",
        "tests/compose/test_stack.py",
    )
    here = Path(__file__).read_text() + "".join((REPOSITORY / other).read_text() for other in others)
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml")}
    folders = {str(path.parent.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("kustomization.yaml")}
    alone = {path for path in files if not any(path.startswith(f"{folder}/") for folder in folders)}
    used = {folder for folder in folders if folder != "kustomize/base"}
    assert {path for path in alone | used if f'"{path}"' not in here} == set()
