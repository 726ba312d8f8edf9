"""A change of an agent in use: nobody notices but by the answers."""

from __future__ import annotations

import datetime
import json
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from .agents import Agent, specification
from .kube import Kube, Manifest
from .load_generator import Caller, Load
from .waiting import wait

RATE = 20.0
STREAMS = 5
WORDS = 40
"""A stream of so many words, a fifth of a second apart, takes longer than a pod's first moments of stopping."""


def asks_for(answer: str, model_url: str) -> Manifest:
    """A specification whose instructions dictate the answer, so that an answer shows who gave it."""
    spec = specification(
        f'Answer "{answer}".',
        agent={"limits": {"runTimeoutSeconds": 20}},
        replicas=3,
        runtime={"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
    )
    return spec | {"model": {"name": f"openai-chat:stream-{WORDS}-200", "baseURL": model_url}}


@pytest.fixture(scope="module")
def rolling(kube: Kube, team: str, model_url: str) -> Agent:
    return Agent(kube=kube, namespace=team, name="rolling").apply(asks_for("one", model_url)).wait_ready()


@pytest.fixture(scope="module")
def load(rolling: Agent, caller: Caller) -> Iterator[Load]:
    with caller.load(rolling.url, rate=RATE, streams=STREAMS) as load:
        load.wait_for("one", kind="stream")
        yield load


def killed_at(agent: Agent) -> list[float]:
    """When the kubelet began to stop pods of an agent, in seconds since the epoch."""
    events = agent.kube.list("Event", agent.namespace)
    stamps = [
        e.get("deprecatedFirstTimestamp") or e["eventTime"]
        for e in events
        if e["reason"] == "Killing" and e["regarding"]["name"].startswith(f"{agent.name}-")
    ]
    return [datetime.datetime.fromisoformat(stamp).timestamp() for stamp in stamps]


def test_a_change_of_instructions_fails_no_request_and_cuts_no_stream(rolling: Agent, load: Load, model_url: str):
    before = len(load.report.outcomes)
    rolling.apply(asks_for("two", model_url)).wait_ready()
    rolling.wait_settled()
    load.wait_for("two", kind="stream")
    load.wait_for("two")

    report = load.report
    print(f"change of instructions: {report}")
    assert not report.failed, report
    late = report.outcomes[before:]
    assert {str(o.answer).split()[0] for o in late} == {"one", "two"}
    assert all(o.deltas > 1 for o in report.streams)
    # The old pods finished streams that were open when they were told to stop.
    spanning = [s for s in report.streams for at in killed_at(rolling) if s.began < at - 1 and s.ended > at + 1]
    assert any("one" in s.answer for s in spanning)
    after = load.report.runs[-1].began
    time.sleep(2)
    assert {o.answer.split()[0] for o in load.report.runs if o.began > after} == {"two"}


def schedulable(kube: Kube) -> set[str]:
    nodes = json.loads(kube.kubectl("get", "nodes", "-o", "json"))["items"]
    return {node["metadata"]["name"] for node in nodes if not node["spec"].get("unschedulable")}


def test_a_node_that_is_drained_loses_no_request(rolling: Agent, load: Load, kube: Kube):
    """Where there is but one node it is opened again while `kubectl drain` is at work, or nothing could take a pod's place."""
    rolling.wait_ready()
    before = {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in rolling.pods()}
    node = Counter(before.values()).most_common(1)[0][0]
    elsewhere = schedulable(kube) - {node}
    options = ("--pod-selector=agentservice.dev/name=rolling", "--ignore-daemonsets", "--delete-emptydir-data")
    command = [*kube.command, "drain", node, *options, "--timeout=240s"]
    streams = len(load.report.streams)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as drain:
        try:
            wait("nothing new comes there", lambda: node not in schedulable(kube), seconds=60, why=rolling.explain)
            if not elsewhere:
                kube.kubectl("uncordon", node)
            said = drain.communicate(timeout=300)[0]
        finally:
            drain.kill()
            kube.kubectl("uncordon", node)
    assert drain.returncode == 0, said
    rolling.wait_ready()
    rolling.wait_settled()
    left = {pod["metadata"]["uid"] for pod in rolling.pods()}
    assert not left & {uid for uid, where in before.items() if where == node}
    wait(
        "every stream that was open has ended",
        lambda: len(load.report.streams) >= streams + 2 * STREAMS,
        seconds=60,
        why=lambda: load.report,
    )
    report = load.report
    print(f"node drained: {report}")
    assert not report.failed, report


def test_scaling_in_loses_no_request(rolling: Agent, load: Load, kube: Kube):
    kube.kubectl("-n", rolling.namespace, "scale", "ags/rolling", "--replicas=1")
    wait("one pod is left", lambda: len(rolling.pods()) == 1, seconds=120, why=rolling.explain)
    load.wait_for("two")
    report = load.report
    print(f"scaled in: {report}")
    assert not report.failed, report


def test_the_last_open_streams_end_well_too(load: Load):
    report = load.stop()
    print(f"whole load: {report}")
    assert not report.failed, report
    assert len(report.streams) > STREAMS


@pytest.fixture(scope="module")
def two_revisions(kube: Kube, team: str) -> Agent:
    """An agent that has been changed once; both configurations are known."""
    agent = Agent(kube=kube, namespace=team, name="undone").apply(specification("Say one.")).wait_ready()
    return agent.apply(specification("Say two.")).wait_ready()


def undo(agent: Agent) -> None:
    agent.kube.kubectl("-n", agent.namespace, "rollout", "undo", f"deployment/{agent.name}")


def test_undoing_a_rollout_lasts_no_second_while_the_operator_may_write(two_revisions: Agent):
    agent = two_revisions
    declared, took = agent.deployed_revision(), list[float]()
    for _ in range(5):
        generation = agent.deployment()["metadata"]["generation"]
        undo(agent)
        began = time.monotonic()
        wait(
            "the declared revision is back",
            lambda: (
                (d := agent.deployment())["metadata"]["generation"] > generation + 1  # noqa: B023
                and agent.deployed_revision() == declared
                and d
            ),
            seconds=30,
            why=agent.explain,
            every=0.02,
        )
        took.append(time.monotonic() - began)
    print(f"declared again after {', '.join(f'{t:.2f}' for t in took)} s")
    assert statistics.median(took) < 5  # a part of a second, where the machine is not busy
    agent.wait_ready()


def test_undoing_a_rollout_of_a_paused_agent_brings_the_old_configuration_back_exactly(
    two_revisions: Agent, caller: Caller
):
    agent = two_revisions.wait_ready()

    def told() -> str:
        (answer,) = caller.ask(agent.url)
        return str(answer.answer)

    assert "Say two." in told()
    config_maps = {c["metadata"]["name"] for c in agent.kube.list("ConfigMap", agent.namespace)}
    agent.pause(paused=True)
    undo(agent)
    agent.kube.kubectl("-n", agent.namespace, "rollout", "status", f"deployment/{agent.name}", "--timeout=60s")
    agent.wait_settled()
    assert "Say one." in told()
    paused = agent.wait_condition("Ready", reason="Paused")
    assert paused["status"] == "False"
    assert "remove the annotation" in paused["message"]
    assert {c["metadata"]["name"] for c in agent.kube.list("ConfigMap", agent.namespace)} == config_maps

    agent.pause(paused=False)
    agent.wait_ready()
    agent.wait_settled()
    assert "Say two." in told()
