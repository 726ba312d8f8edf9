"""The queue takes its workers from none to many and back, by a real KEDA, and no task is lost on the way."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from tests.cluster.pods.agents import Agent, specification
from tests.cluster.pods.kube import Kube, Manifest, condition, secret
from tests.cluster.pods.waiting import wait

from agentservice_api.names import MAX_NAME_LENGTH

from .watched import Counts

TASKS = 60
MOST = 4
IDLE_SECONDS = 15
MODEL = "slow-2000"
PATIENCE_SECONDS = 300
PASSWORD = "example-password"
"""Of examples/redis."""


@pytest.fixture(scope="module")
def redis(kube: Kube, team: str, manifest: Callable[[str], str]) -> Manifest:
    """The example's Redis, and the part of a specification that names it. KEDA asks from a namespace of its own."""
    kube.kubectl("-n", team, "apply", "-f", "-", stdin=manifest("redis/redis.yaml"))
    kube.kubectl("-n", team, "rollout", "status", "deployment/redis", "--timeout=180s")
    url = f"redis://:{PASSWORD}@redis:6379/0"
    kube.apply(secret(team, "redis-queue", url=url, address=f"redis.{team}.svc:6379", password=PASSWORD))
    return {"urlFrom": {"secretKeyRef": {"name": "redis-queue", "key": "url"}}}


@pytest.fixture
def workers(kube: Kube, team: str, redis: Manifest, manifest: Callable[[str], str]) -> Iterator[Agent]:
    """The example, with a model that takes its time, and idle for seconds only."""
    kube.apply(secret(team, "model", **{"api-key": "not-a-real-key"}))
    example: Manifest = yaml.safe_load(manifest("workers.yaml"))
    spec = example["spec"]
    spec["model"] = {
        "name": f"openai-chat:{MODEL}",
        "baseURL": f"http://model-server.{team}.svc/v1",
        "apiKey": {"secretKeyRef": {"name": "model", "key": "api-key"}},
    }
    spec["queue"]["concurrencyPerPod"] = 2
    spec["queue"]["workers"]["resources"]["requests"] = {"cpu": "10m", "memory": "128Mi"}
    spec["runtime"] = {"resources": {"requests": {"cpu": "10m", "memory": "128Mi"}}}
    spec["autoscaling"] |= {"maxReplicas": MOST, "scaleDownStabilizationSeconds": IDLE_SECONDS}
    agent = Agent(kube=kube, namespace=team, name=example["metadata"]["name"]).apply(spec)
    yield agent
    kube.delete("AgentService", team, agent.name)


def tasks(agent: Agent, suffix: str = "") -> str:
    return f"/api/v1/namespaces/{agent.namespace}/services/{agent.name}:80/proxy/v1/tasks{suffix}"


def submit(agent: Agent, text: str) -> str:
    """Submit a task, and return its id."""
    return json.loads(agent.kube.request("POST", tasks(agent), body={"input": text}))["task_id"]


def ended(agent: Agent, id: str) -> Manifest:
    """Return the task once it has ended."""

    def look() -> Manifest | None:
        task = json.loads(agent.kube.request("GET", tasks(agent, f"/{id}")))
        return task if task["finished_at"] else None

    return wait(f"task {id} has ended", look, seconds=PATIENCE_SECONDS, why=agent.explain, every=1)


def asked(agent: Agent) -> int:
    """How often the model was asked."""
    state = agent.kube.request("GET", f"/api/v1/namespaces/{agent.namespace}/services/model-server:80/proxy/state")
    return json.loads(state)["models"].get(MODEL, 0)


def test_the_queue_takes_its_workers_from_none_to_many_and_back_and_loses_no_task(
    workers: Agent, kube: Kube, team: str, capsys: pytest.CaptureFixture[str]
):
    workers.wait_ready(seconds=PATIENCE_SECONDS)
    workers.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)
    with Counts(kube, team, f"{workers.name}-workers") as counts:
        counts.wait_for(0, seconds=PATIENCE_SECONDS)
        workers.wait_ready()
        began, before = time.monotonic(), asked(workers)
        with ThreadPoolExecutor(max_workers=8) as callers:
            ids = list(callers.map(lambda number: submit(workers, f"Task {number}"), range(TASKS)))
            done = list(callers.map(lambda id: ended(workers, id), ids))
        all_ended = time.monotonic()
        gone = counts.wait_for(0, seconds=PATIENCE_SECONDS)

        assert Counter((task["status"], task["attempts"]) for task in done) == {("succeeded", 1): TASKS}
        listed = json.loads(kube.request("GET", tasks(workers, "?status=succeeded&limit=100")))["tasks"]
        assert {task["task_id"] for task in listed} == set(ids)
        assert asked(workers) - before == TASKS, "each was run once"

        since = [count for count in counts.all() if count.heard >= began]
        figures: dict[str, Any] = {
            "numbers": counts.numbers(),
            "first": next(count.heard for count in since if count.count > 0) - began,
            "most": next(count.heard for count in since if count.count == max(c.count for c in since)) - began,
            "ended": all_ended - began,
            "none": gone.heard - all_ended,
        }
        with capsys.disabled():
            print(f"\n{TASKS} tasks of 2 s, two at once in a pod, seconds after the first: {figures}")
        assert max(count.count for count in since) > 1
        assert not any(owner.startswith("agentservice") for count in since for owner in count.owners)

        # one that comes while the last worker goes
        last = ended(workers, submit(workers, "One more"))
        assert (last["status"], last["attempts"]) == ("succeeded", 1)
        counts.wait_for(0, seconds=PATIENCE_SECONDS)
    assert workers.is_ready()
    assert workers.condition("ScalingActive")["reason"] == "Scaling", "no workers are no fault"


def test_the_longest_name_is_scaled_too(kube: Kube, team: str, redis: Manifest):
    name = "long".ljust(MAX_NAME_LENGTH, "x")
    spec = specification(
        redis=redis,
        queue={"enabled": True, "workers": {"replicas": 1}},
        autoscaling={"provider": "KEDA", "maxReplicas": 2, "queuedTasksPerPod": 5},
    )
    agent = Agent(kube=kube, namespace=team, name=name).apply(spec).wait_ready(seconds=PATIENCE_SECONDS)
    agent.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)
    scaled = kube.get("ScaledObject", team, f"{name}-workers")
    assert condition(scaled, "Ready")["status"] == "True"
    assert ended(agent, submit(agent, "Are you there?"))["status"] == "succeeded"
    kube.delete("AgentService", team, name)


def test_a_secret_without_what_keda_needs_is_told_of_and_mended_by_adding_it(kube: Kube, team: str, redis: Manifest):
    url = f"redis://:{PASSWORD}@redis:6379/0"
    kube.apply(secret(team, "redis-url", url=url))
    spec = specification(
        redis={"urlFrom": {"secretKeyRef": {"name": "redis-url", "key": "url"}}},
        queue={"enabled": True, "workers": {"replicas": 1}},
        autoscaling={"provider": "KEDA", "maxReplicas": 2, "queuedTasksPerPod": 5},
    )
    agent = Agent(kube=kube, namespace=team, name="half").apply(spec).wait_ready(seconds=PATIENCE_SECONDS)
    said = agent.wait_condition("ScalingActive", reason="NotScaling", seconds=PATIENCE_SECONDS)
    assert said["message"].startswith("workers: ")
    assert PASSWORD not in said["message"]
    assert ended(agent, submit(agent, "Are you there?"))["status"] == "succeeded", "the declared worker works"
    kube.apply(secret(team, "redis-url", url=url, address=f"redis.{team}.svc:6379", password=PASSWORD))
    agent.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)
    kube.delete("AgentService", team, "half")
