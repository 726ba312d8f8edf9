"""`agentservice rollback`: brings the specification back to an earlier revision, so that the declared state stays the truth.

`kubectl rollout undo` on the Deployment would be undone by the operator within a second. Here the AgentService itself
is changed, and only if nobody changed it in between. Where GitOps owns it, the change belongs into git: it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentservice_api.names import API_VERSION, KIND, LABEL_NAME
from agentservice_cli.cluster.client import Cluster, RefusedError, path_of
from agentservice_cli.cluster.differences import diff
from agentservice_cli.cluster.merging import apply_merge_patch
from agentservice_cli.cluster.plain import Manifest, entries, part, text
from agentservice_cli.cluster.platform import Installation
from agentservice_cli.cluster.rendering import children_of, instructions_reference, resource_of
from agentservice_cli.cluster.revisions import (
    Restoration,
    Revision,
    choose,
    left_over,
    restoration,
    revisions,
)
from agentservice_cli.cluster.status import agent_service
from agentservice_cli.exits import CliError

_MANAGER = "agentservice-rollback"
_NOT_PART = "replicas, rollout, network and suspend are no part of a revision and stay as they are"


@dataclass(frozen=True)
class Rollback:
    """A prepared rollback. `gitops` names the tool that would undo it, empty without one."""

    live: Manifest
    current: Revision
    target: Revision
    restoration: Restoration
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    gitops: str

    def document(self) -> Manifest:
        """Return the rollback as `-o json` shows it."""
        return {
            "namespace": self.live["metadata"]["namespace"],
            "name": self.live["metadata"]["name"],
            "from": {"number": self.current.number, "revision": self.current.name},
            "to": {"number": self.target.number, "revision": self.target.name},
            "specPatch": self.restoration.spec_patch,
            "notes": list(self.notes),
            "gitops": self.gitops or None,
        }


def list_revisions(cluster: Cluster, *, namespace: str, name: str) -> tuple[Revision, ...]:
    """Return the revisions that are kept, the newest first. Raises CliError."""
    agent_service(cluster, namespace=namespace, name=name)
    deployment = cluster.find("apps/v1", "Deployment", namespace, name)
    if deployment is None:
        raise CliError(f"{name} has no Deployment yet", mend=f"agentservice status {name} -n {namespace}")
    labelled = {"labelSelector": f"{LABEL_NAME}={name}"}
    return revisions(
        deployment,
        cluster.items("apps/v1", "ReplicaSet", namespace, **labelled),
        cluster.items("v1", "ConfigMap", namespace, **labelled),
    )


def prepare(
    cluster: Cluster, *, namespace: str, name: str, wanted: str | None, installation: Installation | None
) -> Rollback:
    """Return what going back would do. Raises CliError when there is nothing to go back to."""
    found = list_revisions(cluster, namespace=namespace, name=name)
    live = agent_service(cluster, namespace=namespace, name=name)
    current, target = choose(found, wanted)
    image = installation.platform.runtime_image if installation else ""
    change = restoration(live["spec"], current, target, platform_image=image)
    spec = apply_merge_patch(live["spec"], change.spec_patch)
    lines = diff({"spec": live["spec"]}, {"spec": spec})
    gitops = gitops_of(live["metadata"])
    notes = [*change.notes, *_exactness(live, spec, current, target, installation), _NOT_PART]
    if not gitops:
        notes.append(
            "change the manifest that you apply from in the same way, or the next apply brings the newer one back"
        )
    return Rollback(live, current, target, change, lines, tuple(notes), gitops)


def carry_out(cluster: Cluster, rollback: Rollback) -> None:
    """Change the AgentService, unless somebody changed it since it was read. Raises CliError."""
    metadata = rollback.live["metadata"]
    try:
        cluster.request(
            "PATCH",
            path_of(API_VERSION, KIND, metadata["namespace"], metadata["name"]),
            query={"fieldManager": _MANAGER, "fieldValidation": "Strict"},
            body={
                "metadata": {"resourceVersion": metadata["resourceVersion"]},
                "spec": rollback.restoration.spec_patch,
            },
            content_type="application/merge-patch+json",
        )
    except RefusedError as error:
        if error.status != 409:
            raise
        raise CliError(
            f"{metadata['name']} was changed by somebody else in between: nothing was done",
            mend="look again, then repeat",
        ) from None


def gitops_of(metadata: Mapping[str, Any]) -> str:
    """Return the GitOps tool that keeps the object as git has it; empty when none is seen."""
    labels, annotations = part(metadata, "labels"), part(metadata, "annotations")
    if "kustomize.toolkit.fluxcd.io/name" in labels or "helm.toolkit.fluxcd.io/name" in labels:
        return "Flux"
    if "argocd.argoproj.io/tracking-id" in annotations or "argocd.argoproj.io/instance" in labels:
        return "Argo CD"
    managers = {text(entry, "manager") for entry in entries(metadata, "managedFields")}
    by_manager: Mapping[str, Callable[[str], bool]] = {
        "Flux": lambda manager: manager in ("kustomize-controller", "helm-controller"),
        "Argo CD": lambda manager: manager.startswith("argocd"),
    }
    return next((tool for tool, is_it in by_manager.items() if any(map(is_it, managers))), "")


def _exactness(
    live: Manifest, spec: Any, current: Revision, target: Revision, installation: Installation | None
) -> list[str]:
    """Return whether the result is the revision itself, by rendering it as the operator will."""
    if installation is None:
        return [
            "whether the pods will be exactly those of the revision cannot be told: the operator's settings are unknown"
        ]
    metadata = live["metadata"]
    resource = resource_of(
        {**live, "spec": spec},
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        installation=installation,
        origin=metadata["name"],
    )
    kept = text(target.config, "agent", "instructions")
    instructions = kept if instructions_reference(resource) is not None else None
    rendered = children_of(resource, installation=installation, instructions=instructions, template=current.template)
    if rendered.revision == target.name:
        return [f"the pods will be exactly those of revision {target.name}"]
    deployment = next(child for child in rendered.children if child["kind"] == "Deployment")
    rest = left_over(deployment["spec"]["template"], target)
    where = f" in {', '.join(rest[:5])}" if rest else ""
    return [f"the pods will be a new revision {rendered.revision}, which differs from {target.name}{where}"]
