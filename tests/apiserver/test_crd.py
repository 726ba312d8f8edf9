"""A real API server takes the CRD, and with it serves, explains, defaults and scales AgentServices as we promise."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import components
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, read_settings
from devcluster.standalone import StandaloneControlPlane

CRD = REPOSITORY / "crds" / "agentservice.dev_agentservices.yaml"
FULL = Path(__file__).with_name("test_crd_full.yaml")
SMALLEST = {
    "apiVersion": "agentservice.dev/v1alpha1",
    "kind": "AgentService",
    "metadata": {"name": "hello"},
    "spec": {"agent": {"instructions": "Answer briefly."}, "model": {"name": "test"}},
}


@pytest.fixture
def agents(namespace: str) -> str:
    return f"/apis/agentservice.dev/v1alpha1/namespaces/{namespace}/agentservices"


def create(plane: StandaloneControlPlane, agents: str, resource: dict[str, Any] = SMALLEST) -> dict[str, Any]:
    return plane.api.request("POST", f"{agents}?fieldValidation=Strict", resource)


def test_the_definition_is_established_and_structural(control_plane: StandaloneControlPlane) -> None:
    definition = control_plane.api.request(
        "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agentservices.agentservice.dev"
    )
    conditions = {c["type"]: c["status"] for c in definition["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_the_definition_can_be_applied_client_side(control_plane: StandaloneControlPlane) -> None:
    applied = control_plane.kubectl("apply", "--dry-run=server", f"--filename={CRD}")
    assert "agentservices.agentservice.dev" in applied.stdout
    # kubectl keeps the whole manifest in one annotation, and an object's annotations may hold 256 KiB
    assert len(json.dumps(yaml.safe_load(CRD.read_text()))) < 256 * 1024


def test_the_smallest_legal_object_is_accepted_and_gets_replicas_only(
    control_plane: StandaloneControlPlane, agents: str
) -> None:
    created = create(control_plane, agents)
    assert created["spec"] == {**SMALLEST["spec"], "replicas": 1}


def test_an_object_with_every_field_is_accepted_and_stored_as_written(
    control_plane: StandaloneControlPlane, agents: str
) -> None:
    full = yaml.safe_load(FULL.read_text())
    assert create(control_plane, agents, full)["spec"] == full["spec"]


def test_a_fresh_object_is_in_progress_for_kstatus(
    control_plane: StandaloneControlPlane, agents: str, namespace: str
) -> None:
    created = create(control_plane, agents)
    assert created["status"] == {"observedGeneration": -1}
    built = components.cached(read_settings(), progress=Progress())
    assert built is not None
    judged = subprocess.run(
        [built.binary, "kstatus", namespace, "agentservice.dev", "v1alpha1", "agentservices", "hello"],
        env={"KUBECONFIG": str(control_plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "InProgress" in judged.stdout + judged.stderr


def test_a_status_that_is_taken_away_returns_to_its_default(control_plane: StandaloneControlPlane, agents: str) -> None:
    create(control_plane, agents)
    patched = control_plane.api.request(
        "PATCH", f"{agents}/hello/status", {"status": None}, content_type="application/merge-patch+json"
    )
    assert patched["status"] == {"observedGeneration": -1}


def test_kubectl_explains_the_model(control_plane: StandaloneControlPlane, tmp_path: Path) -> None:
    # kubectl keeps for ten minutes what kinds there are, and explain believes it: the CRD may be younger
    said = control_plane.kubectl(f"--cache-dir={tmp_path}", "explain", "ags.spec.model").stdout
    assert "The model that answers." in said
    assert "openai-chat:gpt-4o-mini" in said


def test_kubectl_scales_by_the_scale_subresource(
    control_plane: StandaloneControlPlane, agents: str, namespace: str
) -> None:
    create(control_plane, agents)
    status = {"status": {"observedGeneration": 1, "replicas": 1, "selector": "agentservice.dev/name=hello"}}
    control_plane.api.request("PATCH", f"{agents}/hello/status", status, content_type="application/merge-patch+json")
    control_plane.kubectl("-n", namespace, "scale", "ags/hello", "--current-replicas=1", "--replicas=2")
    scale = control_plane.api.request("GET", f"{agents}/hello/scale")
    assert scale["spec"]["replicas"] == 2
    assert scale["status"] == {"replicas": 1, "selector": "agentservice.dev/name=hello"}


def test_kubectl_get_tells_a_person_what_they_need(
    control_plane: StandaloneControlPlane, agents: str, namespace: str
) -> None:
    create(control_plane, agents)
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Available",
        "message": "3 of 3 pods serve",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    day = {
        "start": "2026-11-22T23:00:00Z",
        "end": "2026-11-23T23:00:00Z",
        "tokens": 5,
        "costUSD": "9.87",
        "percent": 41,
    }
    month = {"start": "2026-10-31T23:00:00Z", "end": "2026-11-30T23:00:00Z", "percent": 28}
    spent = {"state": "OK", "daily": day, "monthly": month}
    status = {"status": {"readyReplicas": 3, "url": "http://hello.team-a.svc", "conditions": [ready], "budget": spent}}
    control_plane.api.request("PATCH", f"{agents}/hello/status", status, content_type="application/merge-patch+json")
    heads, values = control_plane.kubectl("-n", namespace, "get", "ags").stdout.splitlines()
    assert heads.split() == ["NAME", "READY", "STATUS", "MODEL", "REPLICAS", "TODAY", "MONTH", "AGE"]
    assert values.split()[:5] == ["hello", "True", "Available", "test", "3"]
    assert values.split()[5:7] == ["41", "28"]
    wide = control_plane.kubectl("-n", namespace, "get", "agents", "-o", "wide").stdout
    assert "http://hello.team-a.svc" in wide
    assert "3 of 3 pods serve" in wide


def test_two_owners_may_each_hold_an_entry_of_env(control_plane: StandaloneControlPlane, agents: str) -> None:
    create(control_plane, agents)
    for owner in ("one", "two"):
        mine = {
            **SMALLEST,
            "spec": {**SMALLEST["spec"], "runtime": {"env": [{"name": owner.upper(), "value": owner}]}},
        }
        stored = control_plane.api.request(
            "PATCH",
            f"{agents}/hello?fieldManager={owner}&force=true&fieldValidation=Strict",
            mine,
            content_type="application/apply-patch+yaml",
        )
    assert [entry["name"] for entry in stored["spec"]["runtime"]["env"]] == ["ONE", "TWO"]
