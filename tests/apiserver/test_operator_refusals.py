"""What cannot be done is said, in words that mend; nothing that serves is lost by it, and the operator goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from devcluster.standalone import StandaloneControlPlane

from .operator_process import OperatorProcess, Workbench, eventually

SEMANTIC = sorted(Path(__file__).with_name("invalid").joinpath("semantic").glob("*.yaml"))
"""Manifests that the API server takes and only code can judge; each says its field and its words in its first lines."""


@pytest.mark.parametrize("path", SEMANTIC, ids=lambda path: path.stem)
def test_what_only_code_can_judge_ends_in_spec_accepted_false(operator: OperatorProcess, at: Workbench, path: Path):
    field, says = (line.split(": ", 1)[1] for line in path.read_text().splitlines()[:2])
    resource = yaml.safe_load(path.read_text())
    at.create("AgentService", resource)
    name = resource["metadata"]["name"]
    message = at.settles("SpecAccepted", "False", "InvalidSpec", name=name)
    assert field in message and says in message
    assert at.condition("Ready", name)["reason"] == at.condition("Stalled", name)["reason"] == "InvalidSpec"
    assert at.find("Deployment", name) is None


def test_an_invalid_change_leaves_the_last_good_revision_untouched(operator: OperatorProcess, at: Workbench):
    at.agent()
    at.serves()
    revision = at.get("AgentService", "agent")["status"]["revision"]
    before = at.get("Deployment", "agent")["spec"]
    template = {"schema": {"type": "object", "properties": {"a": {"type": "string"}}}, "promptTemplate": "{b}"}
    at.patch("AgentService", "agent", {"spec": {"agent": {"input": template}, "replicas": 5}})
    message = at.settles("SpecAccepted", "False", "InvalidSpec")
    assert "agent.input.promptTemplate" in message
    assert at.get("Deployment", "agent")["spec"] == before
    assert at.get("AgentService", "agent")["status"]["revision"] == revision
    at.patch("AgentService", "agent", {"spec": {"agent": {"input": None}}})
    at.settles("SpecAccepted", "True")
    eventually("what was valid of it", lambda: at.get("Deployment", "agent")["spec"]["replicas"] == 5)


def test_a_quota_on_deployments_is_named_and_when_it_is_lifted_the_agent_goes_on(
    operator: OperatorProcess, at: Workbench
):
    at.create("ResourceQuota", {"metadata": {"name": "tight"}, "spec": {"hard": {"count/deployments.apps": "0"}}})
    eventually("the quota counts", lambda: at.get("ResourceQuota", "tight")["status"].get("hard"))
    at.agent()
    message = at.settles("Ready", "False", "Forbidden")
    assert "Deployment agent cannot be written" in message
    assert "exceeded quota: tight" in message and "lift the quota" in message
    assert at.condition("Reconciling")["reason"] == "Forbidden", "waiting may mend it"
    at.delete("ResourceQuota", "tight")
    at.settles("Ready", "False", "Progressing", seconds=60)
    assert at.find("Deployment", "agent")


def test_what_the_api_server_refuses_of_a_child_is_told_as_it_says_it(operator: OperatorProcess, at: Workbench):
    """An admission policy of the cluster: nothing of ours could have known."""
    policy = f"no-loadbalancers-{at.namespace}"
    admission = "/apis/admissionregistration.k8s.io/v1"
    at.api.request(
        "POST",
        f"{admission}/validatingadmissionpolicies",
        {
            "metadata": {"name": policy},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["services"],
                        }
                    ]
                },
                "validations": [
                    {"expression": "object.spec.type != 'LoadBalancer'", "message": "ask the network team"}
                ],
            },
        },
    )
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": at.namespace}}}
    at.api.request(
        "POST",
        f"{admission}/validatingadmissionpolicybindings",
        {
            "metadata": {"name": policy},
            "spec": {"policyName": policy, "validationActions": ["Deny"], "matchResources": selector},
        },
    )
    try:
        balanced = {"metadata": {"name": "probe"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 1}]}}

        def refused() -> bool:
            done = at.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump({"apiVersion": "v1", "kind": "Service", **balanced}), check=False)  # fmt: skip
            return "ask the network team" in done.stderr

        eventually("the policy is in force", refused, seconds=60, every=0.5)
        at.agent(network={"service": {"type": "LoadBalancer"}})
        message = at.settles("Ready", "False")
        assert "Service agent" in message and "ask the network team" in message
        at.patch("AgentService", "agent", {"spec": {"network": {"service": {"type": "ClusterIP"}}}})
        at.settles("Ready", "False", "Progressing")
        assert at.find("Service", "agent")
    finally:
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            at.api.request("DELETE", f"{admission}/{kind}/{policy}")


def test_an_agent_in_a_namespace_that_is_going_away_is_no_fault(
    operator: OperatorProcess, control_plane: StandaloneControlPlane, at: Workbench
):
    at.agent()
    at.serves()
    at.api.request("DELETE", f"/api/v1/namespaces/{at.namespace}")
    eventually(
        "it is gone", lambda: at.namespace not in control_plane.kubectl("get", "ns", "-o", "name").stdout, seconds=60
    )
    assert "please report it" not in operator.log


def test_one_agent_that_fails_does_not_keep_others_waiting(operator: OperatorProcess, at: Workbench):
    at.create("ResourceQuota", {"metadata": {"name": "tight"}, "spec": {"hard": {"count/deployments.apps": "1"}}})
    eventually("the quota counts", lambda: at.get("ResourceQuota", "tight")["status"].get("hard"))
    at.agent("first")
    at.serves("first")
    for number in range(10):
        at.agent(f"refused-{number}")
    for number in range(10):
        at.settles("Ready", "False", "Forbidden", name=f"refused-{number}")
    at.delete("Service", "first")
    eventually("it is healed", lambda: at.find("Service", "first"))
