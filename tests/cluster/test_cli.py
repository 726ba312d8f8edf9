"""The command line and agents that really run: how a question reaches a pod, and what a person is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from agentservice_cli.exits import ExitCode
from agentservice_cli.main import run
from devcluster.cluster import Cluster

AGENTS = """\
apiVersion: agentservice.dev/v1alpha1
kind: AgentService
metadata: {name: open}
spec: {agent: {instructions: Be open.}, model: {name: test}}
---
apiVersion: agentservice.dev/v1alpha1
kind: AgentService
metadata: {name: closed}
spec: {agent: {instructions: Be closed.}, model: {name: test}, auth: {type: BearerToken}}
"""

MAY_NOT_FORWARD = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: dev}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: dev}
rules:
  - {apiGroups: [agentservice.dev], resources: [agentservices], verbs: [get, list]}
  - {apiGroups: [""], resources: [pods, secrets], verbs: [get, list]}
  - {apiGroups: [""], resources: [services/proxy], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}
subjects: [{kind: ServiceAccount, name: dev}]
"""


def test_agents_in_the_cluster_are_asked_by_name(
    cluster: Cluster,
    namespace: str,
    kubectl: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cli(*arguments: str, kubeconfig: Path = cluster.kubeconfig) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([*arguments, "-n", namespace, "--kubeconfig", str(kubeconfig)])
        return code, *capsys.readouterr()

    manifest = tmp_path / "agents.yaml"
    manifest.write_text(AGENTS)
    assert cli("plan", "-f", str(manifest))[0] == ExitCode.DIFFERS
    kubectl("apply", "-n", namespace, "-f", str(manifest))
    for name in ("open", "closed"):
        code, out, err = cli("status", name, "--wait", "180")
        assert code == ExitCode.OK, out + err
        assert f"agentservice ask {name}" in out
    assert cli("plan", "-f", str(manifest))[0] == ExitCode.OK
    code, out, err = cli("doctor")
    assert code == ExitCode.OK, out + err

    code, out, err = cli("ask", "open", "Are you there?")
    assert (code, "Are you there?" in out) == (ExitCode.OK, True), err
    code, out, err = cli("ask", "closed", "Are you there?", "-o", "json")
    assert code == ExitCode.OK, err
    assert "Be closed." in json.loads(out)["output"], "the generated token was found by itself"
    code, out, err = cli("ask", "closed", "Hi", "--token", "wrong")
    assert (code, "Unauthorized" in err) == (ExitCode.FAILED, True)

    kubectl("apply", "-n", namespace, "-f", "-", stdin=MAY_NOT_FORWARD)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": kubectl("create", "token", "dev", "-n", namespace).strip()}
    dev = tmp_path / "dev.conf"
    dev.write_text(yaml.safe_dump(config))
    code, out, err = cli("ask", "open", "Are you there?", kubeconfig=dev)
    assert (code, "Are you there?" in out) == (ExitCode.OK, True), err
    assert "asking through the API server's proxy" in err
    code, out, err = cli("ask", "closed", "Hi", kubeconfig=dev)
    assert (code, "pods/portforward" in err) == (ExitCode.FAILED, True)
