"""From a manifest to an answer."""

from __future__ import annotations

import json

import pytest

from .agents import Agent, specification
from .kube import Kube, is_pod_ready
from .load_generator import Caller
from .waiting import wait


@pytest.fixture(scope="module")
def hello(kube: Kube, team: str) -> Agent:
    """An agent that a person applies with kubectl."""
    manifest = {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"name": "hello"},
        "spec": specification(replicas=3),
    }
    kube.kubectl("-n", team, "apply", "-f", "-", stdin=json.dumps(manifest))
    return Agent(kube=kube, namespace=team, name="hello")


def test_a_fresh_object_is_not_ready_before_its_pods_are(hello: Agent):
    seen: list[tuple[str, int]] = []

    def ready() -> bool:
        live = hello.live()
        seen.append((hello.condition("Ready").get("status", "none"), live["status"].get("readyReplicas", 0)))
        return seen[-1][0] == "True"

    wait("hello is Ready", ready, seconds=120, why=hello.explain)
    assert {pods for status, pods in seen if status == "True"} == {3}
    assert sum(map(is_pod_ready, hello.pods())) == 3


def test_it_answers_through_its_service_by_name_and_by_address(hello: Agent, caller: Caller):
    hello.wait_ready()
    url = hello.live()["status"]["url"]
    assert url == hello.url
    service = hello.kube.get("Service", hello.namespace, hello.name)
    assert service is not None
    address = service["spec"]["clusterIP"]
    for where in (url, f"http://{hello.name}", f"http://{address}"):
        (answer,) = caller.ask(where, {"input": "How are you?"})
        assert answer.ok, answer
        assert "How are you?" in answer.answer


def test_openais_sdk_finds_it_as_a_model_and_hears_it_word_by_word(hello: Agent, caller: Caller):
    hello.wait_ready()
    heard = caller.chat(hello.url, "How are you?")
    assert heard["model"] == hello.name
    assert "How are you?" in "".join(heard["said"])
    assert len(heard["said"]) > 3
    assert heard["usage"]["total_tokens"] > 0


def test_kubectl_get_tells_what_a_person_needs(hello: Agent):
    hello.wait_ready()
    head, line = hello.kube.kubectl("-n", hello.namespace, "get", "ags", "hello").splitlines()
    assert head.split() == ["NAME", "READY", "STATUS", "MODEL", "REPLICAS", "TODAY", "MONTH", "AGE"]
    assert line.split()[:5] == ["hello", "True", "Available", "test", "3"]
    wide = hello.kube.kubectl("-n", hello.namespace, "get", "ags", "hello", "-o", "wide")
    assert hello.url in wide
    assert "3 of 3 pods serve revision" in wide
    assert "agentservice.agentservice.dev/hello" in hello.kube.kubectl(
        "-n", hello.namespace, "get", "agents", "-o", "name"
    )


def test_kubectl_explains_the_fields(hello: Agent):
    text = hello.kube.kubectl("explain", "ags.spec.model")
    for word in ("name", "baseURL", "apiKey", "settings", "pydantic-ai"):
        assert word in text


def test_kubectl_scale_changes_the_number_of_pods_and_nothing_else(hello: Agent):
    hello.wait_ready()
    before = hello.restarts()
    hello.kube.kubectl("-n", hello.namespace, "scale", "ags/hello", "--replicas=2")
    hello.wait_ready()
    hello.wait_settled()
    assert len(hello.pods()) == 2
    assert hello.restarts().items() <= before.items()


def test_kubectl_wait_agrees(hello: Agent):
    hello.kube.kubectl("-n", hello.namespace, "wait", "ags/hello", "--for=condition=Ready", "--timeout=60s")


def test_agents_and_operator_run_under_pod_security_restricted(hello: Agent, kube: Kube, operator_namespace: str):
    for namespace in (hello.namespace, operator_namespace):
        label = "jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}"
        assert kube.kubectl("get", "namespace", namespace, "-o", label) == "restricted"
        assert any(map(is_pod_ready, kube.list("Pod", namespace)))
