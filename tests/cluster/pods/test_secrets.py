"""What pods do with keys and tokens: take new ones without a restart, and never show one."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from devcluster import install
from devcluster.cluster import Cluster

from .agents import Agent, specification
from .kube import Kube, Manifest, secret
from .load_generator import Caller, Load
from .waiting import wait

SYNC_SECONDS = 150
"""The kubelet looks at mounted Secrets once a minute, and its cache of them may be as old."""


def model_server_saw(kube: Kube, team: str) -> Counter[str]:
    """Requests by the first digits of their key's SHA-256."""
    (pod,) = kube.list("Pod", team, selector="app.kubernetes.io/name=model-server")
    return Counter(json.loads(kube.through_pod(team, pod["metadata"]["name"], 8000, "/state"))["keys"])


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def with_key(name: str, *, model: str, model_url: str) -> Manifest:
    reference = {"secretKeyRef": {"name": name, "key": "api-key"}}
    return {"name": f"openai-chat:{model}", "baseURL": model_url, "apiKey": reference}


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A key that was changed while an agent with two pods is asked without a break."""

    agent: Agent
    load: Load
    old: str
    new: str
    restarts: dict[str, int]


@pytest.fixture(scope="module")
def rotation(kube: Kube, team: str, caller: Caller, model_url: str) -> Iterator[Rotation]:
    """Begun before the other tests of this file, because the kubelet takes more than a minute to bring the new key."""
    old, new = f"sk-old-{uuid.uuid4().hex}", f"sk-new-{uuid.uuid4().hex}"
    kube.apply(secret(team, "rotated", **{"api-key": old}))
    spec = specification(replicas=2) | {"model": with_key("rotated", model="stand-in", model_url=model_url)}
    agent = Agent(kube=kube, namespace=team, name="rotating").apply(spec).wait_ready()
    restarts = agent.restarts()
    with caller.load(agent.url, rate=5) as load:
        wait(
            "the old key is used",
            lambda: model_server_saw(kube, team)[fingerprint(old)],
            seconds=30,
            why=lambda: load.report,
        )
        kube.apply(secret(team, "rotated", **{"api-key": new}))
        yield Rotation(agent=agent, load=load, old=old, new=new, restarts=restarts)


@pytest.fixture(scope="module")
def reading_operator(cluster: Cluster) -> Iterator[None]:
    """The operator may read the Secrets that agents refer to, as long as the tests of this file last."""
    _let_read(cluster, "true")
    yield
    _let_read(cluster, "false")


def _let_read(cluster: Cluster, may: str) -> None:
    chart = str(install.REPOSITORY / "charts" / install.RELEASE)
    where = ("--namespace", install.NAMESPACE, "--reuse-values", "--wait", "--timeout=300s")
    install.Client(cluster=cluster).helm("upgrade", install.RELEASE, chart, *where, f"--set=readSecrets.enabled={may}")


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A key that was changed while an agent that wants new pods for it is asked without a break."""

    agent: Agent
    load: Load
    new: str
    revision: str
    pods: frozenset[str]
    """UIDs of those with the old key."""


@pytest.fixture(scope="module")
def replacement(reading_operator: None, kube: Kube, team: str, caller: Caller, model_url: str) -> Iterator[Replacement]:
    """Begun before the other tests too: the operator looks once a minute."""
    old, new = f"sk-old-{uuid.uuid4().hex}", f"sk-new-{uuid.uuid4().hex}"
    kube.apply(secret(team, "replaced", **{"api-key": old}))
    spec = specification(replicas=2, rollout={"restartOnSecretChange": True})
    agent = Agent(kube=kube, namespace=team, name="restarting")
    agent.apply(spec | {"model": with_key("replaced", model="stand-in", model_url=model_url)}).wait_ready()
    wait(
        "the operator follows the Secret",
        lambda: agent.condition("SecretChangesFollowed").get("status") == "True",
        seconds=60,
        why=agent.live,
    )
    agent.wait_ready()
    pods = frozenset(pod["metadata"]["uid"] for pod in agent.pods())
    with caller.load(agent.url, rate=5) as load:
        kube.apply(secret(team, "replaced", **{"api-key": new}))
        yield Replacement(agent=agent, load=load, new=new, revision=agent.deployed_revision(), pods=pods)


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Texts that must never be found where they do not belong."""

    key: str
    token: str
    wrong_token: str
    prompt: str
    instructions: str

    def found_in(self, text: str) -> list[str]:
        def encoded(value: str) -> str:
            return base64.b64encode(value.encode()).decode()

        return [name for name, value in vars(self).items() if value in text or encoded(value) in text]


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    names = ("key", "token", "wrong_token", "prompt", "instructions")
    return Canaries(**{name: f"canary-{name.replace('_', '-')}-{uuid.uuid4().hex}" for name in names})


@pytest.fixture(scope="module")
def secretive(kube: Kube, team: str, canaries: Canaries, model_url: str) -> dict[str, Agent]:
    """Agents that hold a key and a token and log everything they ever log; their providers answer, refuse and talk nonsense."""
    kube.apply(secret(team, "canaries", **{"api-key": canaries.key, "token": canaries.token}))
    token = {"name": "web", "valueFrom": {"secretKeyRef": {"name": "canaries", "key": "token"}}}
    agents = {
        model: Agent(kube=kube, namespace=team, name=f"secretive-{model}") for model in ("stand-in", "401", "malformed")
    }
    for model, agent in agents.items():
        spec = specification(
            canaries.instructions,
            auth={"type": "BearerToken", "tokens": [token]},
            observability={"logLevel": "debug", "slowRunSeconds": 1},
        )
        agent.apply(spec | {"model": with_key("canaries", model=model, model_url=model_url)})
    for agent in agents.values():
        agent.wait_ready()
    return agents


@pytest.mark.usefixtures("rotation", "replacement")
def test_no_key_token_or_prompt_is_shown_anywhere(
    secretive: dict[str, Agent], canaries: Canaries, kube: Kube, team: str, caller: Caller, operator_namespace: str
):
    good = {"Authorization": f"Bearer {canaries.token}"}
    wrong = {"Authorization": f"Bearer {canaries.wrong_token}"}
    question = {"input": canaries.prompt}
    statuses = Counter[int | None]()
    shown, refusals = dict[str, str](), list[str]()
    for agent in secretive.values():
        answers = [
            *caller.ask(agent.url, question, headers=good),
            *caller.ask(agent.url, question, headers=wrong),
            *caller.ask(agent.url, {"input": [canaries.prompt]}, headers=good),
            *caller.ask(agent.url, {canaries.prompt: 1}, headers=good),
        ]
        statuses.update(answer.status for answer in answers)
        refusals += [answer.error or "" for answer in answers]
    # They really were asked, and the key really went to the provider.
    assert statuses[200] == 1
    assert statuses[401] == 3
    assert statuses[422] + statuses[400] == 6
    assert statuses[502] + statuses[503] + statuses[500] == 2, statuses
    assert model_server_saw(kube, team)[fingerprint(canaries.key)] >= 3

    for model, agent in secretive.items():
        (pod,) = agent.pods()
        name = pod["metadata"]["name"]
        shown[f"log of {model}"] = kube.pod_log(team, name)
        shown[f"metrics of {model}"] = kube.through_pod(team, name, 8000, "/metrics")
        shown[f"status of {model}"] = json.dumps(agent.live()["status"])
        assert "run_id" in shown[f"log of {model}"]
        assert "pydantic_ai_requests_total" in shown[f"metrics of {model}"]
    for pod in kube.list("Pod", operator_namespace):
        name = pod["metadata"]["name"]
        shown[f"log of {name}"] = kube.pod_log(operator_namespace, name)
        shown[f"metrics of {name}"] = kube.through_pod(operator_namespace, name, 8080, "/metrics")
        assert "controller_runtime_reconcile_total" in shown[f"metrics of {name}"]
    assert any("secretive-401" in text for where, text in shown.items() if where.startswith("log of agentservice-"))
    for namespace in (team, operator_namespace):
        shown[f"events in {namespace}"] = json.dumps(kube.list("Event", namespace))
    assert {where: found for where, text in shown.items() if (found := canaries.found_in(text))} == {}
    # A refusal may tell its caller which of the caller's own fields it means, so the prompt may stand in it.
    assert {name for text in refusals for name in canaries.found_in(text)} <= {"prompt"}


def test_a_rotated_key_reaches_the_provider_without_a_failed_request_or_a_restart(
    rotation: Rotation, kube: Kube, team: str
):
    load = rotation.load

    def the_old_key_is_gone() -> bool:
        """Many requests came with the new key and none with the old: both pods have it."""
        first, asked = model_server_saw(kube, team), len(load.report.runs)
        wait("20 more requests", lambda: len(load.report.runs) > asked + 20, seconds=60, why=lambda: load.report)
        then = model_server_saw(kube, team)
        unused = then[fingerprint(rotation.old)] == first[fingerprint(rotation.old)]
        return unused and then[fingerprint(rotation.new)] > first[fingerprint(rotation.new)]

    wait("every request has the new key", the_old_key_is_gone, seconds=SYNC_SECONDS, why=lambda: load.report)
    report = load.stop()
    print(f"key rotated: {report}")
    assert not report.failed, report
    assert rotation.agent.restarts() == rotation.restarts


def test_where_it_is_asked_for_a_changed_key_brings_new_pods_and_no_request_fails(
    replacement: Replacement, kube: Kube, team: str
):
    agent, load = replacement.agent, replacement.load
    wait(
        "another revision",
        lambda: agent.deployed_revision() != replacement.revision,
        seconds=SYNC_SECONDS,
        why=agent.live,
    )
    wait(
        "only new pods",
        lambda: len(agent.pods()) == 2 and not replacement.pods & {pod["metadata"]["uid"] for pod in agent.pods()},
        seconds=SYNC_SECONDS,
        why=agent.live,
    )
    agent.wait_ready()
    before, asked = model_server_saw(kube, team)[fingerprint(replacement.new)], len(load.report.runs)
    wait("20 more requests", lambda: len(load.report.runs) > asked + 20, seconds=60, why=lambda: load.report)
    report = load.stop()
    print(f"pods replaced for a changed key: {report}")
    assert not report.failed, report
    assert model_server_saw(kube, team)[fingerprint(replacement.new)] >= before + 20
