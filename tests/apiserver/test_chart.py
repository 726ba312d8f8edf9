"""The chart on a real API server, installed by the real Helm."""

import itertools
import json
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster import components
from devcluster.api import RefusedError
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, read_settings
from devcluster.standalone import StandaloneControlPlane, delete_namespace, new_namespace

from .fake_kubelet import kubelet
from .operator_process import OperatorProcess, Workbench, eventually

CHART = REPOSITORY / "charts" / "agentservice-operator"

SHORT = "serviceAccount.name=operator"
"""A certificate's common name has 64 characters at most."""

Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def helm(control_plane: StandaloneControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run Helm against the control plane; `check=False` to look at a refusal."""
    built = components.cached(read_settings(), progress=Progress())
    assert built is not None
    home = tmp_path_factory.mktemp("helm")
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(home)}

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [built.directory / "helm", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


@pytest.fixture
def release(helm: Helm, control_plane: StandaloneControlPlane) -> Iterator[Callable[..., str]]:
    """Install the chart with `--set` values into a new namespace, named as the release; gone afterwards."""
    installed: list[str] = []

    def install(*values: str) -> str:
        name = f"agents-{uuid.uuid4().hex[:6]}"
        control_plane.kubectl("create", "namespace", name)
        control_plane.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        installed.append(name)
        options = [option for value in values for option in ("--set", value)]
        # --take-ownership: the fixture applied crds/ before.
        helm("install", name, str(CHART), "--namespace", name, "--take-ownership", "--wait=hookOnly", *options)
        return name

    yield install
    for name in installed:
        helm("uninstall", name, "--namespace", name, "--ignore-not-found", "--wait=hookOnly")
        control_plane.kubectl("delete", "namespace", name, "--wait=false")


def can(control_plane: StandaloneControlPlane, release: str, *question: str, namespace: str) -> bool:
    user = f"system:serviceaccount:{release}:{release}-agentservice-operator"
    done = control_plane.kubectl("auth", "can-i", *question, "--namespace", namespace, "--as", user, check=False)
    return done.stdout.strip() == "yes"


def test_its_pods_are_admitted_under_pod_security_restricted(release, control_plane: StandaloneControlPlane):
    name = release("networkPolicy.enabled=true")
    pods = ("--namespace", name, "wait", "pod", "--selector", f"app.kubernetes.io/instance={name}")
    control_plane.kubectl(*pods, "--for=create", "--timeout=120s")


def test_the_operator_may_write_children_but_not_read_secrets(release, control_plane: StandaloneControlPlane):
    name = release()
    assert can(control_plane, name, "create", "deployments.apps", namespace="default")
    assert can(
        control_plane, name, "patch", "agentservices.agentservice.dev", "--subresource=status", namespace="default"
    )
    assert can(control_plane, name, "create", "secrets", namespace="default")
    for verb in ("get", "list", "watch", "update", "patch", "delete"):
        assert not can(control_plane, name, verb, "secrets", namespace="default")
        assert not can(control_plane, name, verb, "secrets", namespace=name)


@pytest.fixture
def installed_operator(
    control_plane: StandaloneControlPlane, make_operator: Callable[..., OperatorProcess]
) -> Callable[..., OperatorProcess]:
    """Start an operator that acts as the ServiceAccount of a release, with no other rights than the chart's."""

    def start(release: str, **environment: str) -> OperatorProcess:
        account = f"system:serviceaccount:{release}:operator"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{release}", "system:authenticated"]
        kubeconfig = control_plane.user(account, groups=groups)
        environment |= {"POD_NAMESPACE": release, "LEASE_NAME": f"{release}-agentservice-operator"}
        return make_operator(kubeconfig=kubeconfig, **environment).start()

    return start


def uses_everything(at: Workbench) -> None:
    """See an operator make, heal, prune and report: every call that it has."""
    at.kubectl("create", "configmap", "prompt", "--from-literal=text=Answer briefly.")
    prompt = {"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "text"}}}
    network = {"ingress": {}, "policy": {}, "httpRoute": {"parentRefs": [{"name": "edge"}]}}
    at.agent(
        agent=prompt,
        auth={"type": "BearerToken"},
        budget={"daily": {"tokens": 1000}},
        network=network,
        autoscaling={"minReplicas": 2, "maxReplicas": 3},
    )
    at.serves()
    at.settles("BudgetAvailable", "True", "WithinBudget")
    at.delete("AgentLedger", "agent")
    eventually("the ledger is restored", lambda: at.get("AgentLedger", "agent")["status"]["seeded"])
    at.kubectl("annotate", "agentledger", "agent", "agentservice.dev/forgive-presumed=daily")
    eventually(
        "the request is recorded",
        lambda: "agentservice.dev/forgiven" in at.get("AgentLedger", "agent")["metadata"]["annotations"],
    )
    assert at.get("AgentService", "agent")["status"]["auth"]["secretName"].startswith("agent-token-")
    at.patch("Service", "agent", {"spec": {"ports": [{"port": 8080, "targetPort": 8000, "name": "http"}]}})
    eventually("the Service is healed", lambda: at.get("Service", "agent")["spec"]["ports"][0]["port"] == 80)
    at.delete("Deployment", "agent")
    at.serves()
    less = {
        "suspend": True,
        "runtime": {"serviceAccountName": "default"},
        "budget": None,
        "network": None,
        "autoscaling": None,
    }
    at.patch("AgentService", "agent", {"spec": less})
    eventually("the ServiceAccount is pruned", lambda: at.find("ServiceAccount", "agent") is None)
    for kind in ("Ingress", "NetworkPolicy", "HorizontalPodAutoscaler"):
        eventually(f"the {kind} is pruned", lambda kind=kind: at.find(kind, "agent") is None)
    eventually("the Role is pruned", lambda: at.find("Role", "agent-ledger") is None)
    reasons = {"Created", "Restored", "Pruned"}
    eventually("it is told in events", lambda: reasons <= {event["reason"] for event in at.list("Event")})


def test_the_operator_works_with_the_charts_permissions(release, installed_operator, at: Workbench):
    operator = installed_operator(release(SHORT))
    uses_everything(at)
    assert "orbidden" not in operator.log
    assert operator.stop() == 0


def test_the_operator_works_with_roles_alone(
    release, installed_operator, at: Workbench, control_plane: StandaloneControlPlane
):
    name = release(SHORT, f"watchNamespaces={{{at.namespace}}}")
    elsewhere = Workbench(control_plane, new_namespace(control_plane.api, "elsewhere"))
    elsewhere.agent()
    operator = installed_operator(name, WATCH_NAMESPACES=at.namespace)
    uses_everything(at)
    assert elsewhere.get("AgentService", "agent")["status"] == {"observedGeneration": -1}
    assert elsewhere.find("Deployment", "agent") is None
    assert "orbidden" not in operator.log
    assert operator.stop() == 0
    delete_namespace(control_plane.api, elsewhere.namespace)


ROLES_ALONE = "watchNamespaces={{{}}}"


@pytest.mark.parametrize("scope", ["", ROLES_ALONE], ids=["cluster-wide", "with Roles alone"])
def test_a_secrets_changes_are_followed_as_soon_as_the_chart_lets_the_operator_read_it(
    scope, release, helm: Helm, installed_operator, at: Workbench, control_plane: StandaloneControlPlane
):
    name = release(SHORT, *([scope.format(at.namespace)] if scope else []))
    watched = {"WATCH_NAMESPACES": at.namespace} if scope else {}
    operator = installed_operator(name, SECRETS_SECONDS="1", **watched)

    def let(read: bool) -> None:
        value = f"readSecrets.enabled={str(read).lower()}"
        options = ("--namespace", name, "--reset-then-reuse-values", "--wait=hookOnly")
        helm("upgrade", name, str(CHART), *options, "--set", value)

    def digest() -> str | None:
        annotations = at.get("Deployment", "agent")["spec"]["template"]["metadata"].get("annotations") or {}
        return annotations.get("agentservice.dev/secrets-digest")

    at.kubectl("create", "secret", "generic", "openai", "--from-literal=api-key=1")
    model = {"name": "test", "apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    at.agent(model=model, rollout={"restartOnSecretChange": True})
    message = at.settles("SecretChangesFollowed", "False", "SecretsUnreadable")
    assert "rollout.restartOnSecretChange" in message
    assert "readSecrets.enabled" in message
    with kubelet(at):
        at.settles("Ready", "True")
        assert digest() is None
        let(read=True)
        at.settles("SecretChangesFollowed", "True", "Followed")
        first = eventually("a digest", digest)
        at.patch("Secret", "openai", {"stringData": {"api-key": "2"}})
        second = eventually("another one", lambda: (now := digest()) != first and now)
        let(read=False)
        at.settles("SecretChangesFollowed", "False", "SecretsUnreadable")
        at.patch("Secret", "openai", {"stringData": {"api-key": "3"}})
        at.settles("Ready", "True")
        assert digest() == second, "what cannot be read replaces nothing"
    user = f"system:serviceaccount:{name}:operator"
    let(read=True)

    def may(verb: str, what: str, namespace: str) -> bool:
        asked = ("auth", "can-i", verb, what, "--namespace", namespace, "--as", user)
        return control_plane.kubectl(*asked, check=False).stdout.strip() == "yes"

    assert may("get", "secrets", at.namespace)
    assert may("get", f"secrets/{name}-agentservice-operator-digest-key", name)
    assert may("get", "secrets", name) is not bool(scope), (
        "with Roles alone it reads of its own namespace the key and nothing else"
    )
    for verb in ("list", "watch", "update", "patch", "delete"):
        assert not may(verb, "secrets", at.namespace)
    assert operator.stop() == 0


def test_it_changes_no_lease_but_its_own(release, control_plane: StandaloneControlPlane):
    name = release()
    assert can(
        control_plane, name, "update", f"leases.coordination.k8s.io/{name}-agentservice-operator", namespace=name
    )
    assert not can(control_plane, name, "update", "leases.coordination.k8s.io/another", namespace=name)
    assert not can(control_plane, name, "get", "leases.coordination.k8s.io", namespace="kube-system")


def test_with_watch_namespaces_it_reaches_these_and_no_other(
    release, control_plane: StandaloneControlPlane, namespace: str
):
    name = release(f"watchNamespaces={{{namespace}}}")
    assert can(control_plane, name, "create", "deployments.apps", namespace=namespace)
    assert can(control_plane, name, "watch", "agentservices.agentservice.dev", namespace=namespace)
    assert not can(control_plane, name, "get", "agentservices.agentservice.dev", namespace="default")
    assert not can(control_plane, name, "list", "pods", namespace="default")


def test_who_may_edit_a_namespace_may_edit_agents_in_it(release, control_plane: StandaloneControlPlane, namespace: str):
    release()
    control_plane.kubectl("--namespace", namespace, "create", "rolebinding", "dev", "--clusterrole=edit", "--user=dev")
    asked = ("auth", "can-i", "create", "agentservices.agentservice.dev", "--as=dev")
    for _ in range(40):  # the aggregation controller works through its queue
        if control_plane.kubectl(*asked, "--namespace", namespace, check=False).stdout.strip() == "yes":
            break
    else:
        pytest.fail("edit does not hold create on agentservices")
    assert control_plane.kubectl(*asked, "--namespace", "default", check=False).stdout.strip() == "no"


def test_agents_survive_the_uninstallation(release, helm: Helm, control_plane: StandaloneControlPlane, namespace: str):
    name = release()
    hello = REPOSITORY / "examples" / "hello.yaml"
    control_plane.kubectl("--namespace", namespace, "apply", "--filename", str(hello))
    helm("uninstall", name, "--namespace", name)
    assert "hello" in control_plane.kubectl("--namespace", namespace, "get", "ags", "--output=name").stdout


def test_an_upgrade_changes_the_operator_and_nothing_it_need_not(
    release, helm: Helm, control_plane: StandaloneControlPlane
):
    name = release()

    def versions() -> str:
        kinds = "deployment,service,serviceaccount,role,rolebinding,poddisruptionbudget"
        shown = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} {.metadata.uid}{'\\n'}{end}"
        return control_plane.kubectl("--namespace", name, "get", kinds, "--output", shown).stdout

    before = versions()
    helm("upgrade", name, str(CHART), "--namespace", name, "--wait=hookOnly")
    assert versions() == before


@pytest.mark.parametrize(
    "example",
    [
        "hello.yaml",
        "support.yaml",
        "autoscaling.yaml",
        "network.yaml",
        "cache.yaml",
        "conversations.yaml",
        "durable-steps.yaml",
        "secret-changes.yaml",
        "redis/redis.yaml",
        "data-analyst/data-analyst.yaml",
        "data-analyst/postgres.yaml",
    ],
)
def test_an_example_passes_the_servers_strict_validation(
    example, control_plane: StandaloneControlPlane, namespace: str
):
    file = str(REPOSITORY / "examples" / example)
    command = ("--namespace", namespace, "apply", "--dry-run=server", "--validate=strict", "--filename", file)
    assert control_plane.kubectl(*command).stderr == ""


@pytest.mark.parametrize("overlay", ["model-server", "kustomize/dev", "kustomize/prod"])
def test_an_overlay_passes_the_servers_strict_validation(overlay, control_plane: StandaloneControlPlane):
    for namespace in ("agents-dev", "agents-prod"):
        control_plane.kubectl("create", "namespace", namespace, check=False)
    folder = str(REPOSITORY / "examples" / overlay)
    assert (
        control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "--kustomize", folder).returncode == 0
    )


HELLO = {"agent": {"instructions": "x"}, "model": {"name": "test"}}
DEGRADE = {"atPercent": 90, "model": {"name": "anthropic:x"}}
POLICIES = (
    "policies.allowedModels={test,openai-chat:*}",
    "policies.allowedImages={registry.example.com/agents}",
    "policies.requireBudget=Hard",
)
FITS = {**HELLO, "budget": {"daily": {"tokens": 1000}}}
REFUSED = {
    "a model of another provider": (
        {"model": {"name": "anthropic:claude-haiku-4-5"}},
        ('spec.model.name is "anthropic:claude-haiku-4-5"', "use one of test, openai-chat:*"),
    ),
    "no model, so that code may choose one": (
        {"agent": {"entrypoint": "a:b"}, "model": {"name": ""}},
        ('spec.model.name is ""',),
    ),
    "a model that only begins like an allowed one": ({"model": {"name": "test:2"}}, ('spec.model.name is "test:2"',)),
    "another model to degrade to": (
        {"budget": {"daily": {"tokens": 1000}, "degrade": DEGRADE}},
        ('spec.budget.degrade.model.name is "anthropic:x"',),
    ),
    "an image from elsewhere": (
        {"runtime": {"image": "registry.example.com/agents-of-others/a:1"}},
        ("spec.runtime.image is", "registry.example.com/agents, or leave it out"),
    ),
    "no budget": ({"budget": None}, ("spec.budget is missing",)),
    "a budget that refuses nothing": (
        {"budget": {"enforcement": "Soft", "daily": {"tokens": 1000}}},
        ("spec.budget.enforcement must be Hard",),
    ),
}
ACCEPTED = (
    FITS,
    {**FITS, "model": {"name": "openai-chat:gpt-4o-mini"}, "runtime": {"image": "registry.example.com/agents/a:1"}},
    {**FITS, "budget": {"enforcement": "Hard", "monthly": {"costUSD": "1"}}},
)


def submit(at: Workbench, spec: dict[str, Any], *, name: str = "tried") -> str:
    """Say why the API server refuses it, in a dry run; nothing when it does not."""
    body = {"apiVersion": "agentservice.dev/v1alpha1", "kind": "AgentService", "metadata": {"name": name}}
    try:
        at.api.request("POST", at.path("AgentService") + "?dryRun=All", body | {"spec": spec})
    except RefusedError as refused:
        assert refused.status in (403, 422)
        return str(refused)
    return ""


def test_a_platform_says_which_models_images_and_budgets_it_allows(
    release, helm: Helm, control_plane: StandaloneControlPlane, at: Workbench
):
    before = {**HELLO, "model": {"name": "anthropic:x"}}
    assert submit(at, before) == ""
    at.agent(model={"name": "anthropic:x"})
    policies = [part for value in POLICIES for part in ("--set", value)]
    name = release()
    own = {"kubernetes.io/metadata.name": at.namespace}
    bound = "--set-json=policies.namespaceSelector=" + json.dumps({"matchLabels": own})
    helm("upgrade", name, str(CHART), "--namespace", name, "--wait=hookOnly", *policies, bound)
    for spec, words in REFUSED.values():
        changed = {key: value for key, value in {**FITS, **spec}.items() if value is not None}

        def said(changed: dict[str, Any] = changed, words: tuple[str, ...] = words) -> bool:
            message = submit(at, changed)
            assert all(word in message for word in words), message
            return True

        eventually(f"it is refused for {words}", said)  # the API server compiles policies in its own time
    for spec in ACCEPTED:
        assert submit(at, spec) == ""
    elsewhere = Workbench(control_plane, "default")
    assert submit(elsewhere, before) == "", "the policies are bound to some namespaces"

    # What was there before lives on, is labelled, scaled down and deleted; only its specification must fit once it is changed.
    at.annotate("agent", touched="1")
    with pytest.raises(RefusedError, match=r"spec\.budget is missing|spec\.model\.name"):
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "y"}}})
    at.patch("AgentService", "agent", {"metadata": {"finalizers": ["example.com/held"]}})
    at.delete("AgentService", "agent")
    at.patch("AgentService", "agent", {"metadata": {"finalizers": None}})
    eventually("it is gone", lambda: at.find("AgentService", "agent") is None)


def documented(value: str = "") -> dict[str, set[str]]:
    """What docs/security.md says that the operator may do in a namespace it serves, always or by a value of the chart: verbs by resource."""
    head = "\n| value | resource |" if value else "\n| resource |"
    rows = (REPOSITORY / "docs" / "security.md").read_text().partition(head)[2].splitlines()[2:]
    found: dict[str, set[str]] = {}
    for row in itertools.takewhile(lambda line: line.startswith("|"), rows):
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        if value and cells.pop(0) != f"`{value}`":
            continue
        resources, verbs = cells[:2]
        if "its own" not in resources:
            for resource in resources.split(", "):
                found[re.sub(r" \(.*", "", resource)] = set(verbs.split(", "))
    return found


@pytest.mark.parametrize("value", ["", "readSecrets.enabled"])
def test_kubectl_lists_for_the_operator_exactly_the_documented_table(
    value, release, control_plane: StandaloneControlPlane, namespace: str
):
    def listed(user: str) -> dict[str, set[str]]:
        command = ("auth", "can-i", "--list", "--no-headers", "--namespace", namespace, "--as", user)
        lines = control_plane.kubectl(*command).stdout.splitlines()
        found: dict[str, set[str]] = {}
        for line in lines:
            resource, *_, verbs = re.split(r"\s{2,}|(?<=\])\s+", line.strip())
            if not resource.startswith("["):
                assert "*" not in resource + verbs, line
                found.setdefault(resource, set()).update(verbs.strip("[]").split())
        return found

    name = release(f"watchNamespaces={{{namespace}}}", *([f"{value}=true"] if value else []))
    nobody = listed(f"system:serviceaccount:{name}:nobody")
    operator = listed(f"system:serviceaccount:{name}:{name}-agentservice-operator")
    more = {resource: verbs for resource, verbs in operator.items() if resource not in nobody}
    told = {resource: verbs | documented(value).get(resource, set()) for resource, verbs in documented().items()}
    assert {re.sub(r"^([^./]+)[^/]*", r"\1", resource): verbs for resource, verbs in more.items()} == told
    assert more["secrets"] == ({"create", "get"} if value else {"create"})
