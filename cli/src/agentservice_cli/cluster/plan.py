"""`agentservice plan`: what applying a manifest would change in the cluster, told by the API server itself.

The AgentService is sent as a dry run, so that the server's own rules and defaults count; then each child is applied
as a dry run in the operator's name. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from agentservice_api import names
from agentservice_cli.cluster.client import Cluster, RefusedError, path_of
from agentservice_cli.cluster.differences import diff, essence
from agentservice_cli.cluster.merging import merge_patch
from agentservice_cli.cluster.plain import Manifest, entries, member, number, part, text
from agentservice_cli.cluster.platform import Installation
from agentservice_cli.cluster.rendering import UID_PLACEHOLDER, children_of, instructions_reference, resource_of
from agentservice_cli.cluster.revisions import config_map_of
from agentservice_cli.exits import CliError
from agentservice_cli.local.agent import parse_agent
from agentservice_cli.local.sources import SourceKind, Sources
from agentservice_cli.manifests import Document
from agentservice_operator.render import Rendered

_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_OURS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
    "ServiceAccount": "v1",
    "ConfigMap": "v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
}
"""The kinds that the operator may have made; one that is no longer rendered is pruned."""
_PRIVILEGED = frozenset({"Role", "RoleBinding"})
"""Kinds that the operator writes and the default roles `view` and `edit` may not even read: no dry run, and unseen is fine."""
_OPTIONAL = frozenset({"HTTPRoute", "ScaledObject", "TriggerAuthentication"})
"""Kinds of CustomResourceDefinitions that are not ours: perhaps not installed, perhaps not readable for `view` and `edit`."""


class Action(StrEnum):
    """What would happen to an object; the value is its sign."""

    CREATED = "+"
    CHANGED = "~"
    PRUNED = "-"
    UNCHANGED = "="
    BLOCKED = "!"


@dataclass(frozen=True)
class Change:
    """One object and what would happen to it. `lines` are a unified diff; `note` says why or what else."""

    kind: str
    name: str
    action: Action
    lines: tuple[str, ...] = ()
    note: str = ""

    def document(self) -> Manifest:
        """Return the change as `-o json` shows it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "action": self.action.name.lower(),
            "note": self.note,
            "diff": "\n".join(self.lines),
        }


@dataclass(frozen=True)
class AgentPlan:
    """Everything that applying one AgentService would do."""

    namespace: str
    name: str
    changes: tuple[Change, ...]

    @property
    def differs(self) -> bool:
        return any(change.action is not Action.UNCHANGED for change in self.changes)

    def document(self) -> Manifest:
        """Return the plan as `-o json` shows it."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "differs": self.differs,
            "changes": [change.document() for change in self.changes],
        }


def plan(
    cluster: Cluster, document: Document, *, namespace: str, sources: Sources, installation: Installation
) -> AgentPlan:
    """Return what applying `document` would do. Raises CliError, also for what the API server would refuse."""
    parse_agent(document.content, origin=document.origin)
    name = document.name
    live = cluster.find(names.API_VERSION, names.KIND, namespace, name)
    stored = _dry_run(cluster, document, live, namespace=namespace)
    changes = [_change(names.KIND, name, live, stored)]
    uid = live["metadata"]["uid"] if live else UID_PLACEHOLDER
    resource = resource_of(stored, namespace=namespace, uid=uid, installation=installation, origin=document.origin)
    reference = instructions_reference(resource)
    instructions = None if reference is None else _config_map_text(cluster, namespace, *reference, sources=sources)
    deployment = cluster.find("apps/v1", "Deployment", namespace, name)
    template = None if deployment is None else part(deployment, "spec", "template")
    rendered = children_of(resource, installation=installation, instructions=instructions, template=template)
    if rendered.generated_secret and not text(live, "status", "auth", "secretName"):
        shown = rendered.generated_secret if live else f"{name}-token-UID8"
        changes.append(Change("Secret", shown, Action.CREATED, note="generated once, with a random token"))
    changes += _children(cluster, rendered, template, namespace=namespace, uid=uid)
    changes += _pruned(cluster, rendered, namespace=namespace, name=name, uid=uid)
    return AgentPlan(namespace, name, tuple(changes))


def _dry_run(cluster: Cluster, document: Document, live: Manifest | None, *, namespace: str) -> Manifest:
    """Return the AgentService as the server would store it."""
    path = path_of(names.API_VERSION, names.KIND, namespace)
    query = {"dryRun": "All", "fieldManager": "agentservice-cli", "fieldValidation": "Strict"}
    try:
        if live is None:
            sent = {**document.content, "metadata": {**document.content["metadata"], "namespace": namespace}}
            return cluster.request("POST", path, query=query, body=sent)
        # A patch, not a replacement: the operator may write the status between our look and this.
        patch = merge_patch(live, replacement(live, document.content))
        return cluster.request("PATCH", f"{path}/{document.name}", query=query, body=patch, content_type=_MERGE_PATCH)
    except RefusedError as error:
        if error.status in (400, 422):
            raise CliError(f"{document.origin}: {error.message}", mend="mend these fields and try again") from None
        raise


def replacement(live: Manifest, wanted: Manifest) -> Manifest:
    """Return `live` as `kubectl apply` of `wanted` would leave it: what the file does not say of metadata stays, and so
    does a replica count that somebody scaled."""
    ours, theirs = part(wanted, "metadata"), part(live, "metadata")
    metadata = dict(theirs)
    for name in ("labels", "annotations"):
        merged = {**part(theirs, name), **part(ours, name)}
        if merged:
            metadata[name] = merged
    spec = dict(part(wanted, "spec"))
    if "replicas" not in spec and "replicas" in part(live, "spec"):
        spec["replicas"] = live["spec"]["replicas"]
    return {**live, "metadata": metadata, "spec": spec}


def _children(
    cluster: Cluster, rendered: Rendered, template: Manifest | None, *, namespace: str, uid: str
) -> Iterable[Change]:
    config_maps = _own(cluster, "ConfigMap", namespace=namespace, uid=uid)
    current = None if template is None else config_map_of(template)
    for child in rendered.children:
        kind, name = child["kind"], child["metadata"]["name"]
        try:
            live = cluster.find(child["apiVersion"], kind, namespace, name)
        except RefusedError as error:
            if not _may_be_unseen(kind, error):
                raise
            continue
        if live is not None and (blocked := _holder(live, uid)):
            yield Change(kind, name, Action.BLOCKED, note=blocked)
            continue
        if kind == "ConfigMap":
            yield _config_map_change(
                child, live, next((c for c in config_maps if c["metadata"]["name"] == current), None)
            )
            continue
        if kind in _PRIVILEGED:
            yield _change(kind, name, live, {**child, "metadata": {**part(live or {}, "metadata"), "name": name}})
            continue
        try:
            applied = _apply_dry(cluster, _counted(child, live, rendered), namespace=namespace)
        except RefusedError as error:
            if kind not in _OPTIONAL or error.status != HTTPStatus.NOT_FOUND:
                raise
            yield Change(kind, name, Action.UNCHANGED, note="its kind is not installed here: it is made once that is")
            continue
        yield _change(kind, name, live, applied)


def _apply_dry(cluster: Cluster, child: Manifest, *, namespace: str) -> Manifest:
    """Return the child as the server would store it when the operator applies it."""
    return cluster.request(
        "PATCH",
        path_of(child["apiVersion"], child["kind"], namespace, child["metadata"]["name"]),
        query={"dryRun": "All", "force": "true", "fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"},
        body=child,
        content_type=_APPLY,
    )


def _may_be_unseen(kind: str, error: RefusedError) -> bool:
    forbidden = error.status == HTTPStatus.FORBIDDEN and kind in _PRIVILEGED | _OPTIONAL
    return forbidden or (error.status == HTTPStatus.NOT_FOUND and kind in _OPTIONAL)


def _counted(child: Manifest, live: Manifest | None, rendered: Rendered) -> Manifest:
    """Return a Deployment that leaves the number of its pods to an autoscaler with the number that it will have."""
    if child["kind"] != "Deployment" or "replicas" in child["spec"]:
        return child
    count = number(live or {}, "spec", "replicas") or rendered.first_replicas.get(child["metadata"]["name"], 1)
    return {**child, "spec": {**child["spec"], "replicas": count}}


def _config_map_change(child: Manifest, live: Manifest | None, current: Manifest | None) -> Change:
    name = child["metadata"]["name"]
    if live is not None:
        rolled = current is not None and current["metadata"]["name"] != name
        return Change("ConfigMap", name, Action.UNCHANGED, note="an earlier revision's configuration" if rolled else "")
    if current is None:
        return Change("ConfigMap", name, Action.CREATED, note="the agent's configuration")
    old, new = {"kind": "ConfigMap", "data": current.get("data")}, {"kind": "ConfigMap", "data": child["data"]}
    note = f"the agent's configuration, compared with {current['metadata']['name']}, which is kept for a rollback"
    return Change("ConfigMap", name, Action.CREATED, diff(old, new), note)


def _pruned(cluster: Cluster, rendered: Rendered, *, namespace: str, name: str, uid: str) -> Iterable[Change]:
    wanted = {(child["kind"], child["metadata"]["name"]) for child in rendered.children}
    for kind in _OURS:
        if kind == "ConfigMap":
            continue  # old revisions' configurations stay while a ReplicaSet or pod needs them
        try:
            found = _own(cluster, kind, namespace=namespace, uid=uid)
        except RefusedError as error:
            if not _may_be_unseen(kind, error):
                raise
            continue
        for live in found:
            key = (kind, live["metadata"]["name"])
            if key not in wanted and text(live, "metadata", "labels", names.LABEL_NAME) == name:
                yield Change(*key, Action.PRUNED, note="no longer needed")


def _own(cluster: Cluster, kind: str, *, namespace: str, uid: str) -> Sequence[Manifest]:
    found = cluster.items(_OURS[kind], kind, namespace, labelSelector=f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}")
    return [live for live in found if any(r.get("uid") == uid for r in entries(live, "metadata", "ownerReferences"))]


def _holder(live: Manifest, uid: str) -> str:
    """Return why the operator would not touch `live`; empty when it is ours."""
    owner = next((r for r in entries(live, "metadata", "ownerReferences") if r.get("controller")), None)
    if owner is None:
        return (
            "exists and nobody controls it: the operator would not touch it. Rename the AgentService, or annotate it with "
            + (f'{names.ANNOTATION_ADOPT}="true"')
        )
    if owner.get("uid") == uid:
        return ""
    return (
        f"belongs to {owner.get('kind')} {owner.get('name')}: the operator would not touch it. Rename the AgentService"
    )


def _change(kind: str, name: str, live: Manifest | None, planned: Manifest) -> Change:
    if live is None:
        return Change(kind, name, Action.CREATED)
    lines = diff(essence(live), essence(planned))
    return Change(kind, name, Action.CHANGED if lines else Action.UNCHANGED, lines)


def _config_map_text(cluster: Cluster, namespace: str, name: str, key: str, *, sources: Sources) -> str:
    """Return the text from the given files, which are about to be applied, else from the cluster."""
    content = sources.value(SourceKind.CONFIG_MAP, name, key)
    if content is not None:
        return content.decode(errors="replace")
    live = cluster.find("v1", "ConfigMap", namespace, name)
    found = member(live, "data", key)
    if found is None:
        raise CliError(
            f"spec.agent.instructionsFrom: the ConfigMap {name} of namespace {namespace} has no key {key}"
            if live
            else f"spec.agent.instructionsFrom: there is no ConfigMap {name} in namespace {namespace}",
            mend="create it, or give its file with another -f",
        )
    return str(found)
