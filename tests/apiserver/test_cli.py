"""The command line against a real API server and a real operator (no nodes: pods stay Pending)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentservice_cli.cluster.client import Cluster
from agentservice_cli.exits import ExitCode
from agentservice_cli.main import run
from devcluster.standalone import StandaloneControlPlane

from .operator_process import OperatorProcess, Workbench, eventually

HELLO: dict[str, Any] = {
    "apiVersion": "agentservice.dev/v1alpha1",
    "kind": "AgentService",
    "metadata": {"name": "hello"},
    "spec": {"agent": {"instructions": "Say hello."}, "model": {"name": "test"}, "runtime": {"image": "runtime:1"}},
}


class Cli:
    """The command line with the admin's kubeconfig, in one namespace, and its output."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, namespace: str, kubeconfig: Path, folder: Path) -> None:
        self._capsys = capsys
        self._namespace = namespace
        self._kubeconfig = kubeconfig
        self._folder = folder
        self.out = self.err = ""

    def __call__(self, *arguments: str, kubeconfig: Path | None = None) -> int:
        self._capsys.readouterr()
        where = ("-n", self._namespace, "--kubeconfig", str(kubeconfig or self._kubeconfig))
        code = run([*arguments, *where])
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return code

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def file(self, *manifests: dict[str, Any]) -> str:
        path = self._folder / f"{len(list(self._folder.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump_all(manifests))
        return str(path)


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], control_plane: StandaloneControlPlane, namespace: str, tmp_path: Path
) -> Cli:
    return Cli(capsys, namespace=namespace, kubeconfig=control_plane.kubeconfig, folder=tmp_path)


def changed(**spec: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(HELLO)
    manifest["spec"].update(spec)
    return manifest


def apply(control_plane: StandaloneControlPlane, namespace: str, *manifests: dict[str, Any]) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(manifests))


def signs(found: Any) -> dict[str, str]:
    return {change["kind"]: change["action"] for change in found["changes"]}


@pytest.fixture
def deployed(
    operator: OperatorProcess, control_plane: StandaloneControlPlane, namespace: str, cli: Cli
) -> Callable[[dict[str, Any]], str]:
    """Apply an AgentService and wait until the operator has carried it out; returns the Deployment's revision."""

    def deploy(manifest: dict[str, Any]) -> str:
        apply(control_plane, namespace, manifest)
        return settled()

    def settled() -> str:
        def answer() -> str | None:
            cli("status", "hello", "-o", "json")
            revision = cli.json["revision"]
            apps = f"/apis/apps/v1/namespaces/{namespace}"
            deployment = control_plane.api.request("GET", f"{apps}/deployments/hello")
            metadata = deployment["spec"]["template"]["metadata"]
            seen = deployment["status"].get("observedGeneration") == deployment["metadata"]["generation"]
            at_rest = seen and cli.json["reason"] != "Unseen"
            if not at_rest or metadata["labels"]["agentservice.dev/revision"] != revision:
                return None
            # a change of replicas is observed before the ReplicaSet of a template that came with it is made
            of_revision = f"{apps}/replicasets?labelSelector=agentservice.dev/revision%3D{revision}"
            return revision if control_plane.api.request("GET", of_revision)["items"] else None

        return str(eventually("the operator carried it out", answer))

    deploy.settled = settled  # type: ignore[attr-defined]
    return deploy


def test_what_the_plan_foretells_is_what_the_operator_does(
    deployed: Callable[[dict[str, Any]], str], cli: Cli, at: Workbench
) -> None:
    assert cli("plan", "-f", cli.file(HELLO), "--runtime-image", "r:1", "-o", "json") == ExitCode.DIFFERS
    new = cli.json[0]
    assert set(signs(new).values()) == {"created"}
    deployed(HELLO)
    foretold = {change["name"] for change in new["changes"] if change["kind"] == "ConfigMap"}
    assert foretold == {
        config_map["metadata"]["name"]
        for config_map in at.list("ConfigMap")
        if "agentservice.dev/name" in config_map["metadata"].get("labels", {})
    }

    assert cli("plan", "-f", cli.file(HELLO), "-o", "json") == ExitCode.OK
    assert set(signs(cli.json[0]).values()) == {"unchanged"}

    next_one = changed(agent={"instructions": "Say hello twice."}, replicas=3)
    assert cli("plan", "-f", cli.file(next_one)) == ExitCode.DIFFERS
    assert "-    instructions: Say hello." in cli.out
    assert "+    instructions: Say hello twice." in cli.out
    assert "~ Deployment hello" in cli.out
    assert "+ PodDisruptionBudget hello" in cli.out
    assert "= Service hello" in cli.out
    assert cli("plan", "-f", cli.file(HELLO)) == ExitCode.OK, "a plan writes nothing"
    deployed(next_one)
    assert cli("plan", "-f", cli.file(next_one)) == ExitCode.OK
    assert cli("plan", "-f", cli.file(HELLO)) == ExitCode.DIFFERS
    assert "an earlier revision's configuration" in cli.out


def test_a_plan_knows_what_a_budget_brings_and_takes_away(deployed: Callable[[dict[str, Any]], str], cli: Cli) -> None:
    limited = changed(budget={"daily": {"tokens": 1000}})
    assert cli("plan", "-f", cli.file(limited), "--runtime-image", "r:1", "-o", "json") == ExitCode.DIFFERS
    assert {"Role", "RoleBinding"} < signs(cli.json[0]).keys()
    deployed(limited)
    assert cli("plan", "-f", cli.file(limited)) == ExitCode.OK, cli.out
    assert cli("plan", "-f", cli.file(HELLO), "-o", "json") == ExitCode.DIFFERS
    gone = signs(cli.json[0])
    assert (gone["Role"], gone["RoleBinding"]) == ("pruned", "pruned")


def test_a_plan_knows_that_an_autoscaler_takes_over_the_number_of_pods_as_it_is(
    deployed: Callable[[dict[str, Any]], str], cli: Cli
) -> None:
    deployed(changed(replicas=3))
    scaled = changed(replicas=3, autoscaling={"maxReplicas": 5})
    assert cli("plan", "-f", cli.file(scaled), "-o", "json") == ExitCode.DIFFERS
    made = signs(cli.json[0])
    assert (made["HorizontalPodAutoscaler"], made["Deployment"]) == ("created", "unchanged")
    deployed(scaled)
    assert cli("plan", "-f", cli.file(scaled)) == ExitCode.OK, cli.out


def test_a_plan_knows_a_network_also_where_the_gateway_api_is_missing(
    deployed: Callable[[dict[str, Any]], str], cli: Cli, control_plane: StandaloneControlPlane
) -> None:
    control_plane.kubectl("delete", "crd", "httproutes.gateway.networking.k8s.io", "--ignore-not-found")
    network = {"ingress": {"host": "a.example.com"}, "httpRoute": {"parentRefs": [{"name": "edge"}]}, "policy": {}}
    open_to_others = changed(network=network)
    assert cli("plan", "-f", cli.file(open_to_others), "--runtime-image", "r:1", "-o", "json") == ExitCode.DIFFERS
    made = signs(cli.json[0])
    assert (made["Ingress"], made["NetworkPolicy"], made["HTTPRoute"]) == ("created", "created", "unchanged")
    deployed(open_to_others)
    assert cli("plan", "-f", cli.file(open_to_others)) == ExitCode.OK, cli.out
    assert "not installed" in cli.out
    assert cli("plan", "-f", cli.file(HELLO), "-o", "json") == ExitCode.DIFFERS
    gone = signs(cli.json[0])
    assert (gone["Ingress"], gone["NetworkPolicy"]) == ("pruned", "pruned")


def test_a_plan_keeps_what_somebody_scaled_and_takes_out_what_the_file_no_longer_says(
    deployed: Callable[[dict[str, Any]], str], cli: Cli, control_plane: StandaloneControlPlane, namespace: str
) -> None:
    deployed(changed(observability={"logLevel": "debug"}))
    control_plane.kubectl("scale", "-n", namespace, "ags/hello", "--replicas=2")
    assert cli("plan", "-f", cli.file(HELLO), "-o", "json") == ExitCode.DIFFERS
    (agent,) = (change for change in cli.json[0]["changes"] if change["kind"] == "AgentService")
    assert "-    logLevel: debug" in agent["diff"]
    assert "replicas" not in "".join(line for line in agent["diff"].splitlines() if line[0] in "+-")


def test_a_plan_is_not_disturbed_by_what_others_write_meanwhile(
    deployed: Callable[[dict[str, Any]], str],
    cli: Cli,
    control_plane: StandaloneControlPlane,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployed(HELLO)
    find = Cluster.find

    def find_and_be_overtaken(self: Cluster, api_version: str, kind: str, namespace: str, name: str) -> Any:
        found = find(self, api_version, kind, namespace, name)
        if kind == "AgentService":
            written = json.dumps({"status": {"readyReplicas": 7}})
            patch = ("patch", "-n", namespace, "ags/hello", "--subresource=status", "--type=merge", "-p", written)
            control_plane.kubectl(*patch)
        return found

    monkeypatch.setattr(Cluster, "find", find_and_be_overtaken)
    assert cli("plan", "-f", cli.file(HELLO)) == ExitCode.OK, cli.err


def test_a_child_that_is_no_longer_needed_is_foretold_to_go(
    deployed: Callable[[dict[str, Any]], str], cli: Cli
) -> None:
    deployed(HELLO)
    own_account = changed(runtime={"image": "runtime:1", "serviceAccountName": "mine"})
    assert cli("plan", "-f", cli.file(own_account)) == ExitCode.DIFFERS
    assert "- ServiceAccount hello  (no longer needed)" in cli.out


def test_an_object_of_somebody_else_is_foretold_to_stand_in_the_way(
    cli: Cli, control_plane: StandaloneControlPlane, namespace: str
) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"}, "spec": {"ports": [{"port": 80}]}}
    apply(control_plane, namespace, service)
    assert cli("plan", "-f", cli.file(HELLO), "--runtime-image", "r:1") == ExitCode.DIFFERS
    assert "! Service hello  (exists and nobody controls it" in cli.out
    assert "agentservice.dev/adopt" in cli.out


def test_what_only_the_api_server_can_refuse_is_told_with_the_file(cli: Cli) -> None:
    code = cli("plan", "-f", cli.file(HELLO), "-n", "nowhere")
    assert code in (ExitCode.FAILED, ExitCode.DIFFERS)  # the last -n wins: the fixture's
    labelled = copy.deepcopy(HELLO)
    labelled["metadata"]["labels"] = {"bad label": "x"}
    assert cli("plan", "-f", cli.file(labelled)) == ExitCode.FAILED
    assert cli.err.startswith("error: ")
    assert "bad label" in cli.err


def test_instructions_from_a_config_map_are_read_from_the_cluster_or_from_the_file(
    cli: Cli, control_plane: StandaloneControlPlane, namespace: str
) -> None:
    reference = {"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "text"}}}
    manifest = changed(agent=reference)
    prompt = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "prompt"},
        "data": {"text": "From the map."},
    }
    assert cli("plan", "-f", cli.file(manifest)) == ExitCode.FAILED
    assert "there is no ConfigMap prompt" in cli.err
    assert cli("plan", "-f", cli.file(manifest, prompt)) == ExitCode.DIFFERS
    apply(control_plane, namespace, prompt)
    assert cli("plan", "-f", cli.file(manifest)) == ExitCode.DIFFERS


@pytest.fixture
def installation(control_plane: StandaloneControlPlane) -> Iterator[dict[str, Any]]:
    """The operator's Deployment as the chart makes it, as far as the command line reads it. Its pods never run here."""
    environment = {
        "RUNTIME_IMAGE": "platform/runtime:9",
        "AGENT_DEFAULTS": json.dumps({"observability": {"environment": "staging"}}),
        "LEASE_NAME": "op",
    }
    env = [{"name": name, "value": value} for name, value in environment.items()]
    labels = {"app.kubernetes.io/part-of": "agentservice", "app.kubernetes.io/version": "0.1.0"}
    pod = {
        "metadata": {"labels": {"app": "op"}},
        "spec": {"containers": [{"name": "operator", "image": "op:1", "env": env}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "op", "namespace": "kube-public", "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "op"}}, "template": pod},
    }
    path = "/apis/apps/v1/namespaces/kube-public/deployments"
    yield control_plane.api.request("POST", path, deployment)
    control_plane.api.request("DELETE", f"{path}/op")


def test_a_plan_uses_what_the_installed_operator_is_configured_with(installation: dict[str, Any], cli: Cli) -> None:
    manifest = changed()
    del manifest["spec"]["runtime"]
    assert cli("plan", "-f", cli.file(manifest), "-o", "json") == ExitCode.DIFFERS
    assert cli.err == ""
    assert cli("doctor", "-o", "json") == ExitCode.FAILED
    verdicts = {check["check"]: check["verdict"] for check in cli.json}
    assert verdicts["operator"] == "fail"
    assert "no pod is ready" in next(check["message"] for check in cli.json if check["check"] == "operator")


def test_the_doctor_finds_our_definition_and_no_operator(cli: Cli) -> None:
    assert cli("doctor") == ExitCode.FAILED
    assert "ok   crd        agentservices.agentservice.dev is the one of version 0.1.0" in cli.out
    assert "fail operator   no operator is installed" in cli.out
    assert "helm upgrade --install" in cli.out


def test_somebody_without_rights_is_told_which_are_missing_and_by_what_they_are_needed(
    cli: Cli, control_plane: StandaloneControlPlane
) -> None:
    nobody = control_plane.user("nobody")
    assert cli("doctor", "-o", "json", kubeconfig=nobody) == ExitCode.OK
    rights = next(check for check in cli.json if check["check"] == "rights")
    assert rights["verdict"] == "warn"
    assert "create agentservices.agentservice.dev" in rights["message"]
    assert "rollback" in rights["mend"]
    assert cli("status", kubeconfig=nobody) == ExitCode.FAILED
    assert 'User "nobody" cannot list' in cli.err
    assert "agentservice doctor" in cli.err


def test_a_rollback_brings_the_revision_back_exactly_and_the_operator_agrees(
    deployed: Callable[[dict[str, Any]], str], cli: Cli, control_plane: StandaloneControlPlane, namespace: str
) -> None:
    first = deployed(HELLO)
    second = deployed(
        changed(
            agent={"instructions": "Say goodbye."},
            model={"name": "openai-chat:x", "settings": {"maxTokens": 5}},
            auth={"type": "BearerToken"},
            runtime={"image": "runtime:2", "env": [{"name": "A", "value": "1"}]},
            replicas=2,
        )
    )
    assert first != second
    assert cli("rollback", "hello", "--list", "-o", "json") == ExitCode.OK
    assert [(r["name"], r["current"]) for r in cli.json] == [(second, True), (first, False)]

    assert cli("rollback", "hello", "--dry-run") == ExitCode.OK
    assert "+    instructions: Say hello." in cli.out
    assert deployed.settled() == second  # type: ignore[attr-defined]

    assert cli("rollback", "hello", "--yes") == ExitCode.OK
    assert deployed.settled() == first  # type: ignore[attr-defined]
    found = control_plane.kubectl("get", "ags/hello", "-n", namespace, "-o", "json").stdout
    assert json.loads(found)["spec"]["replicas"] == 2, "the number of pods is no part of a revision"
    assert cli("rollback", "hello", "--to-revision", second, "--yes") == ExitCode.OK
    assert deployed.settled() == second  # type: ignore[attr-defined]


def test_a_rollback_of_what_git_declares_is_shown_and_left_to_git(
    deployed: Callable[[dict[str, Any]], str], cli: Cli
) -> None:
    git = copy.deepcopy(HELLO)
    git["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    first = deployed(git)
    git["spec"]["agent"] = {"instructions": "Say goodbye."}
    second = deployed(git)
    assert cli("rollback", "hello") == ExitCode.FAILED
    assert "Flux keeps hello as git has it" in cli.err
    assert "+    instructions: Say hello." in cli.out
    assert deployed.settled() == second  # type: ignore[attr-defined]
    assert cli("rollback", "hello", "--yes") == ExitCode.OK
    assert deployed.settled() == first  # type: ignore[attr-defined]


def test_a_rollback_asks_first_and_without_anybody_there_changes_nothing(
    deployed: Callable[[dict[str, Any]], str], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(HELLO)
    second = deployed(changed(agent={"instructions": "Say goodbye."}))
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert cli("rollback", "hello") == ExitCode.FAILED
    assert "--yes" in cli.err
    assert deployed.settled() == second  # type: ignore[attr-defined]


def test_a_first_revision_has_nothing_to_go_back_to(deployed: Callable[[dict[str, Any]], str], cli: Cli) -> None:
    deployed(HELLO)
    assert cli("rollback", "hello") == ExitCode.FAILED
    assert "there is no earlier revision" in cli.err
    assert cli("rollback", "nobody") == ExitCode.FAILED
    assert "there: hello" in cli.err


def test_neither_a_plan_nor_a_rollback_takes_the_digest_of_secrets_for_a_part_of_the_specification(
    operator: OperatorProcess, deployed: Callable[[dict[str, Any]], str], cli: Cli, at: Workbench
) -> None:
    """The command line reads no Secret, so what only a Secret decides must not look like a difference."""

    def digest() -> str:
        template = at.get("Deployment", "hello")["spec"]["template"]
        return str(template["metadata"]["annotations"]["agentservice.dev/secrets-digest"])

    at.kubectl("create", "secret", "generic", "openai", "--from-literal=api-key=1")
    model = {"name": "test", "apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    followed = changed(model=model, rollout={"restartOnSecretChange": True})
    deployed({**followed, "spec": {**followed["spec"], "agent": {"instructions": "Before."}}})
    deployed(followed)
    assert digest()
    assert cli("plan", "-f", cli.file(followed), "-o", "json") == ExitCode.OK
    assert set(signs(cli.json[0]).values()) == {"unchanged"}
    assert cli("rollback", "hello", "--dry-run", "-o", "json") == ExitCode.OK
    assert cli.json["specPatch"] == {"agent": {"instructions": "Before."}}


def test_status_shows_the_workers_of_a_queue(
    operator: OperatorProcess, cli: Cli, control_plane: StandaloneControlPlane, namespace: str
) -> None:
    """No kubelet runs here, so none of the pods is ready."""
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    apply(control_plane, namespace, changed(redis=redis, queue={"enabled": True, "workers": {"replicas": 3}}))
    at = Workbench(control_plane, namespace)
    pods = eventually("pods of both", lambda: (found := at.list("Pod")) and len(found) == 4 and found)
    assert cli("status", "hello") == ExitCode.NOT_READY
    assert "workers   0 of 3 ready" in cli.out
    assert all(pod["metadata"]["name"] in cli.out for pod in pods), "the pods of the workers too"
    cli("status", "hello", "-o", "json")
    assert cli.json["workers"] == {"ready": 0, "wanted": 3}


def test_status_tells_why_it_waits_and_scripts_by_exit_code(
    deployed: Callable[[dict[str, Any]], str], cli: Cli
) -> None:
    revision = deployed(changed(auth={"type": "BearerToken"}))
    assert cli("status", "hello") == ExitCode.NOT_READY
    assert f"revision  {revision}" in cli.out
    assert "token     Secret hello-token-" in cli.out
    assert "What to do" in cli.out
    assert cli("status") == ExitCode.NOT_READY
    assert cli.out.splitlines()[0].split() == ["NAME", "READY", "STATUS", "MODEL", "REPLICAS", "AGE", "MESSAGE"]
    assert cli("status", "-A", "-o", "json") == ExitCode.NOT_READY
    assert any(found["name"] == "hello" for found in cli.json)
    assert cli("status", "hello", "--wait", "1", "-o", "yaml") == ExitCode.NOT_READY
    assert yaml.safe_load(cli.out)["conditions"]


def test_a_namespace_without_agents_is_no_failure(cli: Cli) -> None:
    assert cli("status") == ExitCode.OK
    assert "no AgentServices in namespace" in cli.err


def test_an_agent_without_a_ready_pod_is_not_asked_but_explained(
    deployed: Callable[[dict[str, Any]], str], cli: Cli
) -> None:
    deployed(HELLO)
    assert cli("ask", "hello", "Hi") == ExitCode.FAILED
    assert "hello does not serve: " in cli.err
    assert "agentservice status hello" in cli.err


def test_a_budget_is_shown_listed_and_exported_also_when_its_agent_is_gone(
    deployed: Callable[[dict[str, Any]], str], cli: Cli, control_plane: StandaloneControlPlane, namespace: str
) -> None:
    assert cli("budget", "hello") == ExitCode.FAILED
    assert "ever had a budget" in cli.err
    deployed(HELLO)
    assert cli("budget", "hello") == ExitCode.FAILED
    assert "hello has no budget" in cli.err
    limited = changed(budget={"timeZone": "Europe/Berlin", "daily": {"tokens": 1000, "costUSD": "2.50"}})
    limited["metadata"]["labels"] = {"cost-centre": "42"}
    deployed(limited)
    eventually(
        "the ledger is seeded", lambda: cli("budget", "hello", "-o", "json") == ExitCode.OK and cli.json["seeded"]
    )
    daily, monthly = cli.json["windows"]
    assert (daily["limit"], daily["percent"]) == ({"tokens": 1000, "usd": "2.5"}, 0)
    assert (monthly["limit"], monthly["percent"]) == ({"tokens": None, "usd": None}, None)
    assert cli("budget", "hello") == ExitCode.OK
    assert "Hard, days and months of Europe/Berlin" in cli.out
    assert cli("budget", "top") == ExitCode.OK
    assert "0 %" in cli.out

    month = datetime.fromisoformat(monthly["end"]) - timedelta(days=2)
    state = control_plane.api.request(
        "GET", f"/apis/agentservice.dev/v1alpha1/namespaces/{namespace}/agentledgers/hello"
    )
    window = next(w for w in state["status"]["windows"] if w["name"] == "monthly")
    window.update(
        authorizedTokens=70, settledTokens=70, models=[{"name": "m", "price": "spec/1", "tokens": 70, "nanoUSD": 0}]
    )
    control_plane.api.request(
        "PATCH",
        f"/apis/agentservice.dev/v1alpha1/namespaces/{namespace}/agentledgers/hello/status",
        {"status": {"windows": state["status"]["windows"]}},
        content_type="application/merge-patch+json",
    )
    spend = ("budget", "export", "--month", f"{month:%Y-%m}", "--by", "cost-centre")
    assert cli(*spend) == ExitCode.OK
    assert f"{month:%Y-%m},42,{namespace},hello,m,spec/1,70,0,true" in cli.out.splitlines()
    control_plane.kubectl("delete", "-n", namespace, "ags/hello")
    assert cli(*spend, "-o", "json") == ExitCode.OK
    assert [(charge["agent"], charge["tokens"]) for charge in cli.json] == [("hello", 70)]
    assert cli("budget", "suggest", "hello") == ExitCode.FAILED
    assert "Observe" in cli.err
    assert cli("budget", "forgive", "hello", "--window", "weekly", "--reason", "x") == ExitCode.USAGE
    assert "daily or monthly" in cli.err
    assert cli("budget", "forgive", "hello", "--window", "daily") == ExitCode.USAGE
    assert "--reason" in cli.err
    assert cli("budget", "forgive", "hello", "--window", "daily", "--reason", " ") == ExitCode.USAGE
    assert cli("budget", "forgive", "hello", "--window", "daily", "--reason", "a test") == ExitCode.OK
    assert "nothing is presumed" in cli.err
