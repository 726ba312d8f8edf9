"""A revision that cannot serve: the old pods serve on, the reason and the mend are said, and mended it goes on by itself.

All agents break at once, so that their waits overlap; a trickle of requests goes to each of them the whole time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from .agents import Agent, Images, specification
from .kube import Kube, Manifest, secret
from .load_generator import Caller, Load

OLD, NEW = "Say old.", "Say new."


@dataclass(frozen=True, kw_only=True)
class Break:
    """What is wrong with the new revision, and how a person mends it."""

    spec: Manifest
    """The broken specification."""
    reason: str
    words: tuple[str, ...]
    """Stand in Ready's message: the cause and the mend."""
    mend: Callable[[Agent], None]
    condition: str | None = None
    """A further condition that is False for the same reason."""


def new(**parts: object) -> Manifest:
    return specification(NEW, **parts)


def secret_env(name: str, key: str) -> Manifest:
    return {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]}


def model_key(name: str, key: str) -> Manifest:
    return new() | {"model": {"name": "test", "apiKey": {"secretKeyRef": {"name": name, "key": key}}}}


def mend_spec(agent: Agent) -> None:
    agent.apply(new())


def put_secret(name: str, **data: str) -> Callable[[Agent], None]:
    return lambda agent: agent.kube.apply(secret(agent.namespace, name, **data))


def put_prompt(agent: Agent) -> None:
    meta = {"name": "prompt", "namespace": agent.namespace}
    agent.kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"system.md": NEW}})


BREAKS = {
    "image-crashes": Break(
        spec={},  # the operator's image, known once it is built: without its settings it ends at once
        reason="CrashLooping",
        words=("last with exit code 2", "see: kubectl -n", "logs image-crashes-", "--previous"),
        mend=mend_spec,
    ),
    "image-missing": Break(
        spec=new(runtime={"image": "localhost/nothing-here:1"}),
        reason="ImagePullFailed",
        words=("localhost/nothing-here:1", "check runtime.image"),
        mend=mend_spec,
    ),
    "instructions-missing": Break(
        spec=new(agent={"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "system.md"}}}),
        reason="ReferenceNotFound",
        words=("agent.instructionsFrom", "/prompt does not exist", "create it with the key system.md"),
        mend=put_prompt,
        condition="SpecAccepted",
    ),
    "file-secret-missing": Break(
        spec=model_key("provider", "api-key"),
        reason="SecretNotFound",
        words=('secret "provider" not found', "create it"),
        mend=put_secret("provider", **{"api-key": "a-key"}),
        condition="SecretsReady",
    ),
    "file-secret-key-missing": Break(
        spec=model_key("half-provider", "api-key"),
        reason="SecretNotFound",
        words=("references non-existent secret key: api-key", "create it"),
        mend=put_secret("half-provider", **{"api-key": "a-key"}),
        condition="SecretsReady",
    ),
    "env-secret-missing": Break(
        spec=new(runtime=secret_env("database", "url")),
        reason="SecretNotFound",
        words=('secret "database" not found', "create it"),
        mend=put_secret("database", url="postgres://nowhere"),
        condition="SecretsReady",
    ),
    "env-secret-key-missing": Break(
        spec=new(runtime=secret_env("half-database", "url")),
        reason="SecretNotFound",
        words=("couldn't find key url in Secret", "/half-database", "create it"),
        mend=put_secret("half-database", url="postgres://nowhere"),
        condition="SecretsReady",
    ),
    "entrypoint-missing": Break(
        spec=new(agent={"entrypoint": "nowhere.at_all:agent"}),
        reason="ConfigurationRejected",
        words=("spec.agent.entrypoint: there is no module 'nowhere'", "build an image that holds your package"),
        mend=mend_spec,
        condition="Stalled",
    ),
    "tool-missing": Break(
        spec=new(agent={"tools": ["json:lookup_order"]}),
        reason="ConfigurationRejected",
        words=("spec.agent.tools", "json has no 'lookup_order'", "mend the name after the colon"),
        mend=mend_spec,
        condition="Stalled",
    ),
    "template-wrong": Break(
        spec=new(
            agent={
                "input": {
                    "schema": {"type": "object", "properties": {"issue": {"type": "string"}}},
                    "promptTemplate": "Customer {customer}: {issue}",
                }
            }
        ),
        reason="InvalidSpec",
        words=("spec.agent.input.promptTemplate", "{customer}", "declared: issue"),
        mend=mend_spec,
        condition="SpecAccepted",
    ),
}
every_break = pytest.mark.parametrize("name", BREAKS)


@pytest.fixture(scope="module")
def agents(kube: Kube, team: str) -> dict[str, Agent]:
    """All of them serve."""
    agents = {name: Agent(kube=kube, namespace=team, name=name) for name in BREAKS}
    for name, agent in agents.items():
        agent.apply(specification(OLD))
        if name.endswith("secret-key-missing"):
            put_secret("half-" + ("provider" if name.startswith("file") else "database"), other="x")(agent)
    for agent in agents.values():
        agent.wait_ready(seconds=180)
    return agents


@pytest.fixture(scope="module")
def load(agents: dict[str, Agent], caller: Caller) -> Iterator[Load]:
    with caller.load(*(agent.url for agent in agents.values()), rate=len(agents)) as load:
        load.wait_for("Say old.")
        yield load


@pytest.fixture(scope="module")
def broken(agents: dict[str, Agent], load: Load, images: Images) -> dict[str, Agent]:
    """All of them were given a revision that cannot serve."""
    for name, agent in agents.items():
        spec = BREAKS[name].spec or new(runtime={"image": images.operator})
        agent.apply(spec)
    return agents


@every_break
def test_a_broken_revision_says_the_cause_and_the_mend(name: str, broken: dict[str, Agent]):
    agent, expected = broken[name], BREAKS[name]
    ready = agent.wait_condition("Ready", reason=expected.reason, seconds=120)
    assert ready["status"] == "False"
    for word in expected.words:
        assert word in ready["message"]
    if expected.condition is not None:
        further = agent.wait_condition(expected.condition, reason=expected.reason)
        assert further["status"] == ("True" if expected.condition == "Stalled" else "False")
        for word in expected.words:
            assert word in further["message"]


@every_break
def test_the_old_pods_serve_on(name: str, broken: dict[str, Agent], load: Load):
    broken[name].wait_condition("Ready", reason=BREAKS[name].reason, seconds=120)
    answer = load.wait_for("Say old.", url=broken[name].url, seconds=20)
    assert answer.ok
    assert not load.report.failed, load.report


@pytest.fixture(scope="module")
def mended(broken: dict[str, Agent]) -> dict[str, Agent]:
    """A person has read the messages and done what they say."""
    for name, agent in broken.items():
        agent.wait_condition("Ready", reason=BREAKS[name].reason, seconds=120)
    for name, agent in broken.items():
        BREAKS[name].mend(agent)
    return broken


@every_break
def test_mended_it_becomes_ready_by_itself(name: str, mended: dict[str, Agent], load: Load):
    agent = mended[name].wait_ready(seconds=180)
    load.wait_for("Say new.", url=agent.url)
    for kind in ("SpecAccepted", "SecretsReady"):
        assert agent.condition(kind)["status"] == "True"
    assert agent.condition("Stalled") == {}


def test_nobody_noticed(load: Load, mended: dict[str, Agent]):
    for agent in mended.values():
        agent.wait_settled()
    report = load.stop()
    print(f"broken and mended: {report}")
    assert not report.failed, report
