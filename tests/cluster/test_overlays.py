"""The overlays for development and production, which bring namespaces of their own and want much of a small node."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import pytest

from .pods.agents import Agent
from .pods.kube import Kube
from .shipped import run


@pytest.fixture
def begin(kube: Kube) -> Iterator[Callable[[str], None]]:
    """See that nothing is left of an earlier try in a namespace that an overlay names, and remove it in the end."""
    begun: list[str] = []

    def begin(namespace: str) -> None:
        kube.kubectl("delete", "namespace", namespace, "--ignore-not-found")  # waits, minutes where pods may drain long
        begun.append(namespace)

    yield begin
    for namespace in begun:
        kube.kubectl("delete", "namespace", namespace, "--wait=false")


def test_an_overlay_for_development_serves(kube: Kube, manifest: Callable[[str], str], begin: Callable[[str], None]):
    begin("agents-dev")
    kube.kubectl("apply", "-f", "-", stdin=manifest("kustomize/dev"))
    agent = Agent(kube=kube, namespace="agents-dev", name="concierge").wait_ready(seconds=180)
    status, _ = run(agent, "What is on today?")
    assert status == 200


def test_an_overlay_for_production_serves_callers_with_a_token(
    kube: Kube, manifest: Callable[[str], str], begin: Callable[[str], None]
):
    begin("agents-prod")
    kube.kubectl("create", "namespace", "agents-prod")
    kube.kubectl("-n", "agents-prod", "create", "secret", "generic", "openai", "--from-literal=api-key=not-a-real-key")
    kube.kubectl("apply", "-f", "-", stdin=manifest("kustomize/prod"))
    agent = Agent(kube=kube, namespace="agents-prod", name="concierge").wait_ready(seconds=240)
    assert run(agent, "What is on today?")[0] == 401
    secret = kube.get("Secret", "agents-prod", agent.live()["status"]["auth"]["secretName"])
    assert secret is not None
    token = base64.b64decode(secret["data"]["token"]).decode()
    # Through the pod itself: the API server's proxy keeps Authorization for itself. The wrong body shows that the token
    # was taken, without asking a provider that cannot be reached.
    program = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "r = u.Request('http://concierge/v1/run', b'{}', {'Authorization': 'Bearer ' + sys.stdin.read()})\n"
        "try: print(u.urlopen(r).status)\n"
        "except e.HTTPError as x: print(x.code)"
    )
    command = ("-n", "agents-prod", "exec", "-i", "deployment/concierge", "--", "python", "-c", program)
    assert kube.kubectl(*command, stdin=token).split()[-1] in {"400", "415", "422"}
    assert kube.kubectl(*command, stdin="another").split()[-1] == "401"
