"""GitOps tools come to the right judgement in every state of a life, and never find that anybody wrote what Git owns."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel

from devcluster import components
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, read_settings
from devcluster.standalone import StandaloneControlPlane

from . import fake_kubelet
from .definitions import gitops
from .fake_kubelet import by_revision, kubelet
from .operator_process import Audit, OperatorProcess, Workbench, eventually

GITOPS = REPOSITORY / "examples" / "gitops"
HEALTH = GITOPS / "argocd" / "health.lua"


def program(*arguments: str, stdin: str = "", environment: dict[str, str] | None = None) -> dict[str, Any]:
    built = components.cached(read_settings(), progress=Progress())
    assert built is not None
    done = subprocess.run(
        [built.binary, *arguments],
        input=stdin,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def flux_expressions() -> dict[str, str]:
    documents = list(yaml.safe_load_all((GITOPS / "flux" / "agents.yaml").read_text()))
    (check,) = next(d for d in documents if d["kind"] == "Kustomization")["spec"]["healthCheckExprs"]
    return {key: check[key] for key in ("inProgress", "failed", "current")}


def flux(live: dict[str, Any]) -> str:
    """What Flux concludes from the expressions; exactly one of them may be true, so that their order is no matter."""
    environment = celpy.Environment()
    facts = {key: json_to_cel(live[key]) for key in ("metadata", "spec", "status")}
    said = {
        key: bool(environment.program(environment.compile(text)).evaluate(facts))
        for key, text in flux_expressions().items()
    }
    (true,) = [key for key, answer in said.items() if answer]
    return true


def judgements(at: Workbench) -> tuple[str, str, str]:
    """kstatus by its own code, Argo CD's health by the interpreter and libraries it has, Flux's expressions."""
    live = at.get("AgentService", "agent")
    text = json.dumps(live)
    health = program("argohealth", str(HEALTH), stdin=text)
    assert health["message"]
    return program("kstatus", "-", stdin=text)["status"], health["status"], flux(live)


def become(at: Workbench, *expected: str) -> None:
    eventually(f"{expected}, not {judgements(at)}", lambda: judgements(at) == expected, seconds=60, every=0.5)


PROGRESSING = ("InProgress", "Progressing", "inProgress")
HEALTHY = ("Current", "Healthy", "current")
FAILED = ("Failed", "Degraded", "failed")


def test_nobody_believes_in_an_object_that_no_operator_has_seen(at: Workbench):
    """The tests that need an operator come after this one and start it."""
    at.agent()
    assert judgements(at) == PROGRESSING


def test_every_state_of_a_life_is_judged_as_it_is(operator: OperatorProcess, at: Workbench):
    with kubelet(at, fake_kubelet.starting) as node:
        at.agent(replicas=2)
        at.settles("Ready", "False", "Progressing")
        assert judgements(at) == PROGRESSING
        node.behave = fake_kubelet.running
        become(at, *HEALTHY)

        old = at.get("AgentService", "agent")["status"]["revision"]
        node.behave = by_revision(fake_kubelet.starting, old=old)
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Answer at length."}}})
        at.settles("Ready", "False", "Progressing")
        assert judgements(at) == PROGRESSING
        node.behave = fake_kubelet.running
        become(at, *HEALTHY)

        at.patch("AgentService", "agent", {"spec": {"runtime": {"podAnnotations": {"agentservice.dev/x": "y"}}}})
        become(at, *FAILED)
        at.patch("AgentService", "agent", {"spec": {"runtime": {"podAnnotations": None}}})
        become(at, *HEALTHY)

        old = at.get("AgentService", "agent")["status"]["revision"]
        node.behave = by_revision(fake_kubelet.crashing(78, message="agent.entrypoint: nothing there"), old=old)
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": None, "entrypoint": "acme:agent"}}})
        become(at, *FAILED)
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Back.", "entrypoint": None}}})
        node.behave = fake_kubelet.running
        become(at, *HEALTHY)

        at.annotate("agent", paused="true")
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Not yet."}}})
        become(at, "InProgress", "Suspended", "inProgress")
        at.annotate("agent", paused=None)
        become(at, *HEALTHY)

        at.patch("AgentService", "agent", {"spec": {"suspend": True}})
        become(at, "Current", "Suspended", "current")
        at.patch("AgentService", "agent", {"spec": {"suspend": False}})
        become(at, *HEALTHY)

        at.patch("AgentService", "agent", {"metadata": {"finalizers": ["example.com/held"]}})
        at.delete("AgentService", "agent")
        kstatus, argo, _ = judgements(at)
        assert (kstatus, argo) == ("Terminating", "Progressing")
        at.patch("AgentService", "agent", {"metadata": {"finalizers": None}})


def differences(at: Workbench, path: str) -> dict[str, tuple[object, object]]:
    """What a server-side dry run of Git would change, as Flux and Argo CD ask: now and then, by object.

    Status is nobody's in Git, and moves on between the two looks.
    """

    def declared(item: dict[str, Any]) -> dict[str, Any]:
        kept = ("name", "labels", "annotations", "finalizers", "ownerReferences", "generation")
        rest = {key: value for key, value in item.items() if key not in ("metadata", "status")}
        return rest | {"metadata": {key: item["metadata"].get(key) for key in kept}}

    command = ("apply", "--server-side", "--field-manager=git", "--dry-run=server", "--output=json")
    said = json.loads(at.kubectl(*command, "--kustomize", path).stdout)
    found = {}
    for item in said.get("items", [said]):
        would_be, now = declared(item), declared(at.get(item["kind"], item["metadata"]["name"]))
        if would_be != now:
            found[f"{item['kind']} {item['metadata']['name']}"] = (now, would_be)
    return found


def test_git_never_finds_a_difference_whatever_the_operator_and_others_do(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    path = str(REPOSITORY / "examples" / "gitops/agents")
    with kubelet(at):
        at.kubectl("apply", "--server-side", "--field-manager=git", "--kustomize", path)
        at.settles("Ready", "True", name="greeter")
        assert differences(at, path) == {}
        for count in (3, 6, 2):  # as a HorizontalPodAutoscaler does it
            scale = at.path("Deployment", "greeter", "scale") + "?fieldManager=some-autoscaler"
            at.api.request("PATCH", scale, {"spec": {"replicas": count}}, content_type="application/merge-patch+json")
            at.settles("Ready", "True", name="greeter")
            assert differences(at, path) == {}
        at.kubectl("rollout", "restart", "deployment/greeter")
        at.kubectl("scale", "ags/greeter", "--replicas=5")
        at.patch("Service", "greeter", {"spec": {"type": "NodePort"}})
        operator.stop()
        operator.start()
        at.settles("Ready", "True", name="greeter")
        at.quiet(audit)
        assert differences(at, path) == {}
        live = at.get("AgentService", "greeter")
        ours = [e for e in live["metadata"]["managedFields"] if e["manager"].startswith("agentservice-operator")]
        assert [(e["manager"], e.get("subresource")) for e in ours] == [("agentservice-operator-status", "status")]
        assert {key for e in ours for key in e["fieldsV1"]} == {"f:status"}


def test_no_child_carries_what_argo_cd_tracks_its_own_objects_by(operator: OperatorProcess, at: Workbench):
    tracking = {"argocd.argoproj.io/tracking-id": "agents:x", "argocd.argoproj.io/sync-wave": "1"}
    body = {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"name": "agent", "annotations": tracking, "labels": {"app.kubernetes.io/instance": "agents"}},
        "spec": {"agent": {"instructions": "x"}, "model": {"name": "test"}, "network": {"ingress": {}, "policy": {}}},
    }
    at.create("AgentService", body)
    at.serves()
    kinds = ("ConfigMap", "ServiceAccount", "Service", "Ingress", "NetworkPolicy", "Deployment", "ReplicaSet")
    for kind in kinds:
        (child,) = eventually(kind, lambda kind=kind: at.list(kind, of="agent"))
        marks = {**child["metadata"]["labels"], **child["metadata"].get("annotations", {})}
        assert not [key for key in marks if "argocd" in key or key == "app.kubernetes.io/instance"], kind


@pytest.fixture(scope="module")
def gitops_tools(control_plane: StandaloneControlPlane) -> None:
    for definition in gitops():
        control_plane.kubectl("apply", "--server-side", "--filename", str(definition))


@pytest.mark.parametrize("example", ["gitops/argocd/application.yaml", "gitops/flux/agents.yaml"])
def test_the_examples_for_argo_cd_and_flux_are_what_these_take(gitops_tools: None, at: Workbench, example: str):
    file = str(REPOSITORY / "examples" / example)

    def accepted() -> bool:
        command = ("apply", "--dry-run=server", "--validate=strict", "--filename", file)
        return at.kubectl(*command, check=False).returncode == 0

    eventually("the definitions are established", accepted, seconds=20)


def test_both_follow_the_folder_that_the_example_has():
    application = yaml.safe_load((GITOPS / "argocd" / "application.yaml").read_text())
    source, kustomization = yaml.safe_load_all((GITOPS / "flux" / "agents.yaml").read_text())
    assert (GITOPS / application["spec"]["source"]["path"] / "kustomization.yaml").exists()
    assert (GITOPS / kustomization["spec"]["path"] / "kustomization.yaml").exists()
    assert application["spec"]["source"]["repoURL"] == source["spec"]["url"]
    assert kustomization["spec"]["sourceRef"]["name"] == source["metadata"]["name"]
