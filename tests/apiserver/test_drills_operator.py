"""The operator killed in mid-apply, doubled, out of credentials, out of time, and in namespaces that vanish under it: agents end right."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
from tests.services.api_proxy import ApiProxy, Asked, Fate, fair
from tests.services.programs import at_hand

from agentservice_operator.pace import BURST, SECONDS_A_WRITE
from agentservice_operator.render import Platform
from devcluster.errors import ClusterError
from devcluster.packages import Need
from devcluster.standalone import StandaloneControlPlane

from .drills import RICH, WRITES_OF_A_LIFE, Life, differences, right, twice_created, written
from .fake_kubelet import kubelet
from .operator_process import SYSTEM_NAMESPACE, Audit, OperatorProcess, Workbench, eventually

Make = Callable[..., OperatorProcess]


@pytest.fixture
def make(make_operator: Make, at: Workbench) -> Iterator[Make]:
    """Make operators of this test's namespace, with a Lease of its own."""
    made: list[OperatorProcess] = []

    def make(**environment: object) -> OperatorProcess:
        made.append(make_operator(**{"WATCH_NAMESPACES": at.namespace, "LEASE_NAME": at.namespace, **environment}))
        return made[-1]

    yield make
    for process in made:
        process.kill()
        assert "please report it" not in process.log


@pytest.fixture(autouse=True)
def clears_up(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "proxy" in request.fixturenames:
        request.getfixturevalue("proxy").weather = fair


def test_what_a_leader_leaves_half_made_the_next_one_finishes_and_makes_nothing_twice(
    make: Make, proxy: ApiProxy, proxied: Path, at: Workbench, audit: Audit
):
    """Killed while each of six agents is at another point: what it sent last is carried out, and it never learns of it."""
    names = [f"agent-{number}" for number in range(6)]
    first, second = make(kubeconfig=proxied).start(), make().start(lead=False)
    sent = 0

    def falls_silent(asked: Asked) -> Fate | None:
        nonlocal sent
        if not asked.writes or asked.resource == "leases":
            return None
        sent += 1
        return Fate(holds_answer=True) if sent > 25 else None

    with kubelet(at):
        proxy.weather = falls_silent
        for name in names:
            at.agent(name, **RICH)
        eventually("it is in the middle of everything", lambda: sent > 30)
        unfinished = [name for name in names if differences(at, name)]
        first.kill()
        eventually("the other leads", lambda: second.leads, seconds=90)
        right(at, *names)
    assert len(unfinished) >= 3, "it was too quick to be caught in the middle"
    at.quiet(audit)
    assert twice_created(audit.writes(namespace=at.namespace)) == {}


def test_two_installations_by_mistake_make_agents_right_and_come_to_rest(make: Make, at: Workbench, audit: Audit):
    """Each with a Lease of its own, so that both lead."""
    both = [make(LEASE_NAME=f"{at.namespace}-{number}").start() for number in range(2)]
    life = Life(at)
    with kubelet(at):
        life.begin(audit)
        audit.forget()
        life.go_on()
        life.ends_well(audit)
    assert all(process.leads for process in both)
    assert len(written(audit, at)) <= 2 * WRITES_OF_A_LIFE
    assert twice_created(written(audit, at)).keys() <= {"services robbed", "serviceaccounts robbed"}


def test_two_installations_of_different_versions_write_slowly_and_say_so(make: Make, at: Workbench, audit: Audit):
    """What one declares, the other undoes. Nobody can be right, but the API server must not suffer from it."""
    other = Platform(runtime_image="registry.example/agentservice-runtime:2")
    old = make(LEASE_NAME=f"{at.namespace}-old").start()
    make(LEASE_NAME=f"{at.namespace}-new", RUNTIME_IMAGE=other.runtime_image).start()
    at.agent()

    def contended() -> bool:
        return sum(event["reason"] == "Contended" for event in at.list("Event")) >= 2

    eventually("both say that somebody undoes it", contended, seconds=120)
    audit.forget()
    began = time.monotonic()
    time.sleep(2 * SECONDS_A_WRITE)
    deployments = [write for write in audit.writes(namespace=at.namespace) if write.resource == "deployments"]
    assert len(deployments) <= 2 * 2 * (1 + (time.monotonic() - began) / SECONDS_A_WRITE), "a patch and an apply each"
    assert old.stop() == 0
    eventually("who is left makes it right", lambda: not differences(at, "agent", platform=other), seconds=120)
    at.quiet(audit)


def test_a_hundred_changes_a_second_are_taken_together(make: Make, at: Workbench, audit: Audit):
    operator = make().start()
    at.agent(**RICH)
    at.serves()
    at.quiet(audit)
    audit.forget()
    began, changes = time.monotonic(), 4 * BURST
    for number in range(changes):
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": f"Answer as number {number}."}}})
        time.sleep(max(0.0, began + number / 100 - time.monotonic()))
    right(at, "agent", ready=False)
    at.quiet(audit)
    runs = BURST + 2 + (time.monotonic() - began) / SECONDS_A_WRITE
    writes = audit.writes(namespace=at.namespace)
    for resource in ("deployments", "agentservices"):
        assert len([write for write in writes if write.resource == resource]) <= 2 * runs, resource
    assert f"number {changes - 1}." in at.get("ConfigMap", at.config_map())["data"]["config.json"]
    assert operator.metric("controller_runtime_reconcile_total") < changes, "changes were looked at one by one"


def test_a_namespace_deleted_in_mid_reconcile_ends_and_others_are_served(
    make: Make, proxy: ApiProxy, proxied: Path, control_plane: StandaloneControlPlane, at: Workbench, audit: Audit
):
    doomed = Workbench(control_plane, f"{at.namespace}-doomed")
    control_plane.kubectl("create", "namespace", doomed.namespace)
    operator = make(kubeconfig=proxied, WATCH_NAMESPACES=f"{at.namespace},{doomed.namespace}").start()
    proxy.forget()
    proxy.weather = lambda asked: Fate(delay=0.1) if asked.writes else None
    for number in range(4):
        doomed.agent(f"agent-{number}", **RICH)
    eventually("it is at work", lambda: sum(n for (how, *_), n in proxy.carried_out.items() if how == "POST") >= 10)
    at.api.request("DELETE", f"/api/v1/namespaces/{doomed.namespace}")
    at.agent("elsewhere")
    right(at, "elsewhere", ready=False)
    proxy.weather = fair
    listed = control_plane.kubectl
    eventually("it is gone", lambda: doomed.namespace not in listed("get", "ns", "-o", "name").stdout, seconds=120)
    doomed.quiet(audit, seconds=2)
    assert f'namespace="{doomed.namespace}"' not in operator.metrics()
    at.quiet(audit)


def test_etcd_restarted_loses_nothing(make: Make, control_plane: StandaloneControlPlane, at: Workbench, audit: Audit):
    operator, life = make().start(), Life(at)
    with kubelet(at):
        life.begin(audit)
        audit.forget()
        control_plane.stop_program("etcd")
        with pytest.raises(AssertionError):
            eventually("an answer without etcd", lambda: at.agent("nowhere"), seconds=0)
        control_plane.start_program("etcd")
        control_plane.wait_ready()
        eventually("writes are taken", lambda: at.agent("after"), seconds=60)
        life.go_on()
        operator.start_again_if_it_lost_its_lease()
        life.ends_well(audit)
        right(at, "after")
    assert operator.leads
    assert len(written(audit, at)) <= 1.5 * WRITES_OF_A_LIFE


LEEWAY_SECONDS = 60
"""So long the API server goes on to accept what has expired."""


class Account:
    """A ServiceAccount of its own, and tokens of it that a kubelet keeps fresh in a file until it is `late`."""

    LIVES_SECONDS, REFRESHED_SECONDS = 12, 3

    def __init__(self, at: Workbench, directory: Path) -> None:
        self.late = threading.Event()
        self._at, self._file = at, directory / "token"
        at.create("ServiceAccount", {"metadata": {"name": "operator"}})
        self._uid = at.get("ServiceAccount", "operator")["metadata"]["uid"]
        user = f"system:serviceaccount:{at.namespace}:operator"
        bind = ("create", "clusterrolebinding", user.replace(":", "-"), "--clusterrole=cluster-admin")
        at.plane.kubectl(*bind, f"--serviceaccount={at.namespace}:operator")
        cluster = {"server": at.plane.server, "certificate-authority": str(at.plane.certificate_authority)}
        config = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"tokenFile": "token"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))
        self._ends = threading.Event()
        self._refresh()
        self._thread = threading.Thread(target=self._keep_fresh, daemon=True)

    def __enter__(self) -> Account:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _keep_fresh(self) -> None:
        while not self._ends.wait(self.REFRESHED_SECONDS):
            if not self.late.is_set():
                self._refresh()

    def _refresh(self) -> None:
        now = int(time.time())
        account = {"name": "operator", "uid": self._uid}
        issuer = "https://kubernetes.default.svc.cluster.local"
        claims = {
            "iss": issuer,
            "aud": [issuer],
            "sub": f"system:serviceaccount:{self._at.namespace}:operator",
            "iat": now - 600,
            "nbf": now - 600,
            "exp": now + self.LIVES_SECONDS - LEEWAY_SECONDS,
            "kubernetes.io": {"namespace": self._at.namespace, "serviceaccount": account},
        }
        key = (self._at.plane.directory / "pki" / "sa.key").read_text()
        fresh = self._file.with_suffix(".new")
        fresh.write_text(jwt.encode(claims, key, algorithm="ES256"))
        fresh.rename(self._file)


def test_a_token_that_expires_is_read_anew_and_one_that_comes_late_is_waited_for(
    make: Make, at: Workbench, audit: Audit, tmp_path: Path
):
    life = Life(at)
    with Account(at, tmp_path) as account, kubelet(at):
        operator = make(kubeconfig=account.kubeconfig).start()
        life.begin(audit)
        refusals = lambda: operator.metric("rest_client_requests_total", code="401")  # noqa: E731
        eventually("a token has expired", refusals, seconds=90)
        at.quiet(audit)
        assert operator.leads
        assert "leadership lost" not in operator.log
        audit.forget()
        account.late.set()
        eventually("no token is good", lambda: "401 Unauthorized" in operator.log, seconds=90)
        life.go_on()
        account.late.clear()

        def leads() -> bool:
            operator.start_again_if_it_lost_its_lease()  # where the new one came too late for that
            return operator.leads

        eventually("it leads", leads, seconds=90)
        life.ends_well(audit)
    assert len(written(audit, at)) <= WRITES_OF_A_LIFE


@pytest.fixture(scope="module")
def faketime() -> Path:
    """The library that gives a process a clock of our choice."""
    at_hand(Need.FAKETIME)
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def test_a_clock_that_jumps_by_days_changes_neither_who_leads_nor_what_agents_are(
    make: Make, proxied: Path, at: Workbench, audit: Audit, faketime: Path, tmp_path: Path
):
    clock, life = tmp_path / "clock", Life(at)

    def jump(offset: str) -> None:
        (tmp_path / "new").write_text(offset)
        (tmp_path / "new").rename(clock)

    def transitions() -> int:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{at.namespace}"
        return at.api.request("GET", path)["spec"]["leaseTransitions"]

    def moves_on() -> int:
        """Give it something to log, and return on how many days it has."""
        changes = {"instructions": f"Answer at length. It is {time.monotonic():.0f}."}
        at.patch("AgentService", "changed", {"spec": {"agent": changes}})
        at.serves("changed")
        return len({record["time"][:10] for record in leader.records()})

    jump("+0d")
    fake = {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    leader = make(kubeconfig=proxied, **fake).start()
    standby = make().start(lead=False)
    with kubelet(at):
        life.begin(audit)
        before = transitions()
        audit.forget()
        jump("+1d")
        life.go_on()
        right(at, "changed", "robbed", "edited", "new")
        jump("-1d")
        eventually("it lives on a third day", lambda: moves_on() == 3)
        life.ends_well(audit)
    assert (leader.leads, standby.leads, transitions()) == (True, False, before)
    assert len(written(audit, at)) <= WRITES_OF_A_LIFE + 20


def rss_mib(operator: OperatorProcess) -> float:
    (line,) = (
        line for line in Path(f"/proc/{operator.pid}/status").read_text().splitlines() if line.startswith("VmRSS:")
    )
    return int(line.split()[1]) / 1024


def strangers(number: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Objects of the kinds that we watch, which are not ours; a kilobyte each."""
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    bodies = {
        "ConfigMap": {"data": {"text": "x" * 1000}},
        "ServiceAccount": {},
        "Role": {"rules": [rule]},
        "NetworkPolicy": {"spec": {"podSelector": {}}},
    }
    kinds = list(bodies)
    for index in range(number):
        kind = kinds[index % len(kinds)]
        metadata = {"name": f"stranger-{index}", "annotations": {"text": "x" * 1000}}
        yield kind, {"metadata": metadata, **bodies[kind]}


def test_a_crowd_of_objects_that_are_not_ours_takes_no_memory_and_calls_for_no_write(
    make: Make, at: Workbench, audit: Audit
):
    number = 10_000 if os.environ.get("AGENTSERVICE_DEEP") else 1_200
    operator = make().start()
    at.agent()
    right(at, "agent", ready=False)
    at.quiet(audit)
    audit.forget()
    before = rss_mib(operator)
    body = "\n---\n".join(
        json.dumps({"apiVersion": version, "kind": kind, **content})
        for kind, content in strangers(number)
        for version in [{"Role": "rbac.authorization.k8s.io/v1", "NetworkPolicy": "networking.k8s.io/v1"}.get(kind, "v1")]
    )  # fmt: skip
    at.kubectl("create", "--validate=false", "--filename", "-", stdin=body)
    at.patch("AgentService", "agent", {"spec": {"replicas": 2}})
    right(at, "agent", ready=False)
    operator.stop()
    operator.start()  # what it lists at a start is in memory at once
    at.agent("late")
    right(at, "agent", "late", ready=False)
    grown = rss_mib(operator) - before
    print(f"{number} foreign objects: {before:.0f} MiB and {grown:+.1f} MiB")
    assert grown < 15 + number / 400
    assert not [write for write in audit.writes(namespace=at.namespace) if "stranger" in write.name]
    for kind in {kind for kind, _ in strangers(4)}:
        at.api.request("DELETE", at.path(kind))  # or all operators of later tests list them too


TOLERATION = {"key": "agents", "operator": "Exists"}
CONTAINER = "/spec/template/spec/containers/0"
POLICIES = {
    "image and label": f'[JSONPatch{{op: "replace", path: "{CONTAINER}/image", value: "mirror.example/runtime:1"}}, '
    'JSONPatch{op: "add", path: "/metadata/labels/team", value: "a"}]',
    "variable": 'object.spec.template.spec.containers[0].env.exists(e, e.name == "ADDED") ? [] : '
    f'[JSONPatch{{op: "add", path: "{CONTAINER}/env/-", value: Object.spec.template.spec.containers.env{{name: "ADDED", value: "x"}}}}]',
    "toleration": 'object.spec.template.spec.tolerations.exists(t, t.key == "spot") ? [] : '
    '[JSONPatch{op: "add", path: "/spec/template/spec/tolerations/-", value: '
    'Object.spec.template.spec.tolerations{key: "spot", operator: "Exists"}}]',
}


@pytest.fixture
def admission(at: Workbench) -> Iterator[Callable[[str], None]]:
    """Let the API server change Deployments of the namespace, whoever writes them."""
    base, name = "/apis/admissionregistration.k8s.io/v1", f"mutate-{at.namespace}"

    def install(patch: str) -> None:
        rule = {
            "apiGroups": ["apps"],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["deployments"],
        }
        spec = {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
        }
        selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": at.namespace}}}
        plain = tried()
        at.api.request("POST", f"{base}/mutatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
        binding = {"policyName": name, "matchResources": selector}
        at.api.request("POST", f"{base}/mutatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding})

        eventually("the policy is in force", lambda: tried() != plain, seconds=60)

    def tried() -> tuple[object, object]:
        container = {"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}
        labels = {"probe": "x"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "tolerations": [TOLERATION]}}
        probe = {"metadata": {"name": "probe", "labels": labels}, "spec": {"selector": {"matchLabels": labels}, "template": template}}  # fmt: skip
        made = at.api.request("POST", at.path("Deployment") + "?dryRun=All", probe)
        return made["metadata"]["labels"], made["spec"]["template"]["spec"]

    yield install
    for kind in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        with contextlib.suppress(ClusterError):
            at.api.request("DELETE", f"{base}/{kind}/{name}")


@pytest.mark.parametrize("what", POLICIES)
def test_what_an_admission_policy_changes_in_our_writes_is_not_fought_over(
    make: Make, at: Workbench, audit: Audit, admission: Callable[[str], None], what: str
):
    make().start()
    admission(POLICIES[what])
    at.agent(runtime={"tolerations": [TOLERATION]})
    at.serves()
    at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Answer at length."}}})
    at.serves()
    at.quiet(audit, seconds=3)
    assert len(written(audit, at)) <= 20
