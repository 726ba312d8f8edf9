"""`agentservice doctor`: is the cluster fit, is the operator there, may you do what you want; and the mend for each no."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from agentservice_api import names
from agentservice_api.crd import custom_resource_definition, ledger_definition
from agentservice_cli import __version__
from agentservice_cli.cluster.client import Access, Cluster, RefusedError, connect
from agentservice_cli.cluster.plain import Manifest, entries, is_true, number, part, text
from agentservice_cli.cluster.platform import operator_deployments, operator_environment
from agentservice_cli.exits import CliError
from agentservice_cli.terminal import Tone

MINIMUM = (1, 30)
_UPGRADE = "helm upgrade --install agentservice-operator charts/agentservice-operator -n agentservice-system"
_INSTALL = f"{_UPGRADE} --create-namespace"
_INSTALL_CLI = "pip install --upgrade ./api ./runtime ./operator './cli[cluster]'"
_NEWER = f"in a newer clone of the repository: {_INSTALL_CLI}"


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"

    @property
    def tone(self) -> Tone:
        return {Verdict.OK: Tone.GOOD, Verdict.WARN: Tone.CAUTION, Verdict.FAIL: Tone.BAD}[self]


@dataclass(frozen=True)
class Check:
    """One check. `mend` is what to do; empty when nothing is to be done."""

    name: str
    verdict: Verdict
    message: str
    mend: str = ""

    def document(self) -> dict[str, str]:
        """Return the check as `-o json` shows it."""
        return {"check": self.name, "verdict": self.verdict, "message": self.message, "mend": self.mend}


def examine(access: Access, *, namespace: str | None) -> Iterator[Check]:
    """Yield each check as it is done; stops after one without which the others say nothing."""
    try:
        cluster = connect(access)
        answer = cast("Mapping[str, str]", cluster.request("GET", "/version"))
    except CliError as error:
        yield Check("cluster", Verdict.FAIL, error.message, error.mend)
        return
    yield Check("cluster", Verdict.OK, f"{cluster.server} answers (context {cluster.context})")
    yield kubernetes_version(answer)
    yield from _guarded("crd", lambda: _definition(cluster))
    yield from _guarded("operator", lambda: _operator(cluster))
    yield from _guarded("rights", lambda: _rights(cluster, namespace or cluster.namespace))
    yield from _guarded("agents", lambda: _agents(cluster, namespace or cluster.namespace))


def kubernetes_version(answer: Mapping[str, str]) -> Check:
    """Judge the API server's version."""
    major, minor = (int(re.sub(r"\D.*", "", answer.get(part) or "0") or 0) for part in ("major", "minor"))
    text = answer.get("gitVersion") or f"{major}.{minor}"
    if (major, minor) < MINIMUM:
        return Check("kubernetes", Verdict.FAIL, f"{text} is too old", "upgrade to Kubernetes 1.30 or newer")
    return Check("kubernetes", Verdict.OK, text)


def definition_check(live: Manifest, brought: Manifest) -> Check:
    """Compare an installed CRD with the one that this version brings."""
    name = text(brought, "metadata", "name")
    established = is_true(live, "Established")
    if not established:
        return Check("crd", Verdict.FAIL, f"{name} is not established", f"kubectl describe crd {name}")
    version = next((v for v in entries(live, "spec", "versions") if v["name"] == names.VERSION), None)
    if version is None or not version.get("served"):
        return Check("crd", Verdict.FAIL, f"{name} does not serve {names.VERSION}", _UPGRADE)
    ours = brought["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    theirs = version["schema"]["openAPIV3Schema"]
    if _shape(ours) == _shape(theirs):
        return Check("crd", Verdict.OK, f"{name} is the one of version {__version__}")
    missing, more = _fields(ours) - _fields(theirs), _fields(theirs) - _fields(ours)
    what = "; ".join(
        f"{words} {', '.join(sorted(found)[:4])}{' …' if len(found) > 4 else ''}"
        for words, found in (("the cluster lacks", missing), ("this command line does not know", more))
        if found
    )
    mend = _UPGRADE if missing or not more else _NEWER
    return Check("crd", Verdict.WARN, f"{name} differs from version {__version__}: {what or 'in its rules'}", mend)


def _definition(cluster: Cluster) -> Iterator[Check]:
    for brought in (custom_resource_definition(), ledger_definition()):
        name = text(brought, "metadata", "name")
        try:
            live = cluster.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        except RefusedError as error:
            if error.status == 404:
                yield Check(
                    "crd",
                    Verdict.FAIL,
                    f"this cluster does not know {text(brought, 'spec', 'names', 'kind')}s",
                    _INSTALL,
                )
                continue
            cluster.request("GET", f"/apis/{names.API_VERSION}")  # everybody may ask for what is served
            yield Check("crd", Verdict.OK, f"{names.API_VERSION} is served (you may not read the CRDs themselves)")
            return
        yield definition_check(live, brought)


def _operator(cluster: Cluster) -> Iterator[Check]:
    try:
        found = operator_deployments(cluster)
    except RefusedError as error:
        yield Check("operator", Verdict.WARN, f"cannot be looked at: {error.message}", "ask who runs the cluster")
        return
    if not found:
        yield Check("operator", Verdict.FAIL, "no operator is installed", _INSTALL)
        return
    if len(found) > 1:
        scopes = {operator_environment(deployment).get("WATCH_NAMESPACES") or "" for deployment in found}
        if "" in scopes or len(scopes) < len(found):
            where = ", ".join(deployment["metadata"]["namespace"] for deployment in found)
            yield Check(
                "operator",
                Verdict.WARN,
                f"several are installed ({where})",
                "keep one, or give each its own watchNamespaces",
            )
    for deployment in found:
        yield running(deployment)
        yield from _leader(cluster, deployment)


def running(deployment: Manifest) -> Check:
    """Judge an operator's Deployment: pods and version."""
    namespace = text(deployment, "metadata", "namespace")
    where = f"{namespace}/{text(deployment, 'metadata', 'name')}"
    ready, wanted = number(deployment, "status", "readyReplicas"), number(deployment, "spec", "replicas")
    if not ready:
        return Check("operator", Verdict.FAIL, f"{where}: no pod is ready", f"kubectl -n {namespace} describe pods")
    version = text(deployment, "metadata", "labels", "app.kubernetes.io/version") or "unknown"
    if ready < wanted:
        return Check(
            "operator",
            Verdict.WARN,
            f"{where} {version}: {ready} of {wanted} pods are ready",
            f"kubectl -n {namespace} get pods",
        )
    if version != __version__:
        return Check(
            "operator",
            Verdict.WARN,
            f"{where} is version {version}, this command line {__version__}",
            f"{_UPGRADE}, or in a clone of version {version}: {_INSTALL_CLI}",
        )
    return Check("operator", Verdict.OK, f"{where} {version}: {ready} of {wanted} pods are ready")


def _leader(cluster: Cluster, deployment: Manifest) -> Iterator[Check]:
    metadata = deployment["metadata"]
    name = operator_environment(deployment).get("LEASE_NAME") or metadata["name"]
    try:
        lease = cluster.find("coordination.k8s.io/v1", "Lease", metadata["namespace"], name)
    except RefusedError as error:
        yield Check("leader", Verdict.WARN, f"cannot be looked at: {error.message}", "ask who runs the cluster")
        return
    yield leader(lease, now=datetime.now(tz=UTC), namespace=metadata["namespace"])


def leader(lease: Manifest | None, *, now: datetime, namespace: str) -> Check:
    """Judge the operator's Lease: somebody must hold and renew it."""
    mend = f"kubectl -n {namespace} logs deployment/agentservice-operator"
    spec = part(lease, "spec")
    holder, renewed = text(spec, "holderIdentity"), text(spec, "renewTime")
    if not holder or not renewed:
        return Check("leader", Verdict.FAIL, "no operator pod leads", mend)
    silent = (now - datetime.fromisoformat(renewed)).total_seconds()
    if silent > 2 * (number(spec, "leaseDurationSeconds") or 15):
        return Check("leader", Verdict.FAIL, f"{holder} led, and was last heard of {silent:.0f} s ago", mend)
    return Check("leader", Verdict.OK, f"{holder} leads")


_RIGHTS: tuple[tuple[str, str, str, str, str], ...] = (
    ("get", names.GROUP, "agentservices", "", "status, plan, ask"),
    ("list", names.GROUP, "agentservices", "", "status"),
    ("create", names.GROUP, "agentservices", "", "apply, plan"),
    ("update", names.GROUP, "agentservices", "", "plan"),
    ("patch", names.GROUP, "agentservices", "", "apply, rollback"),
    ("patch", "apps", "deployments", "", "plan"),
    ("list", "apps", "replicasets", "", "rollback"),
    ("list", "", "configmaps", "", "rollback, plan"),
    ("list", "", "pods", "", "status, ask"),
    ("list", "", "events", "", "status"),
    ("get", "", "pods", "log", "kubectl logs"),
    ("get", "", "pods", "portforward", "ask"),
    ("create", "", "pods", "portforward", "ask"),
)  # verb, group, resource, subresource, the commands that need it


def _rights(cluster: Cluster, namespace: str) -> Iterator[Check]:
    denied = list[str]()
    commands = set[str]()
    for verb, group, resource, subresource, needed_by in _RIGHTS:
        if not cluster.may(verb, resource, group=group, namespace=namespace, subresource=subresource):
            denied.append(f"{verb} {resource}{'/' + subresource if subresource else ''}{'.' + group if group else ''}")
            commands.update(needed_by.split(", "))
    if not denied:
        yield Check("rights", Verdict.OK, f"you may do everything that these commands do in {namespace}")
        return
    yield Check(
        "rights",
        Verdict.WARN,
        f"in {namespace} you may not {', '.join(denied)}",
        f"needed by: {', '.join(sorted(commands))}. Ask for the role `edit` there",
    )


def _agents(cluster: Cluster, namespace: str) -> Iterator[Check]:
    found = cluster.items(names.API_VERSION, names.KIND, namespace)
    waiting = [item["metadata"]["name"] for item in found if not is_true(item, "Ready")]
    if waiting:
        yield Check(
            "agents",
            Verdict.WARN,
            f"{len(waiting)} of {len(found)} in {namespace} are not ready: {', '.join(waiting[:5])}",
            f"agentservice status {waiting[0]} -n {namespace}",
        )
        return
    yield Check("agents", Verdict.OK, f"{len(found)} in {namespace}" + (", all ready" if found else ""))


def _guarded(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from checks()
    except CliError as error:
        yield Check(
            name,
            Verdict.WARN if isinstance(error, RefusedError) and error.status == 403 else Verdict.FAIL,
            error.message,
            error.mend,
        )


def _shape(schema: Any) -> Any:
    """Return the schema without its prose."""
    if isinstance(schema, dict):
        members = cast("Manifest", schema)
        return {k: _shape(v) for k, v in members.items() if k != "description" or not isinstance(v, str)}
    if isinstance(schema, list):
        return [_shape(item) for item in cast("list[Any]", schema)]
    return schema


def _fields(schema: Any, path: str = "") -> set[str]:
    found = set[str]()
    if isinstance(schema, dict):
        members = cast("Manifest", schema)
        for name, below in cast("Manifest", members.get("properties") or {}).items():
            where = f"{path}.{name}" if path else name
            found |= {where, *_fields(below, where)}
        for member in ("items", "additionalProperties"):
            found |= _fields(members.get(member), path)
    return found
