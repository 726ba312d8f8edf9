"""Decides which revisions an AgentService had, and what has to change in its specification to have one of them again.

A revision is a ReplicaSet: its pod template has the image and the environment, and names the immutable ConfigMap with
the whole of the agent's configuration. Nothing else remembers the old specification. So what differs between the
two revisions is brought back into the specification as it is now, and nothing that is equal is touched. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentservice_api.names import ANNOTATION_SECRETS, CONFIG_FILE, GENERATED_TOKEN_KEY, LABEL_REVISION
from agentservice_cli.cluster.differences import paths
from agentservice_cli.cluster.merging import merge_patch
from agentservice_cli.cluster.plain import Manifest, entries, member, number, part, text
from agentservice_cli.exits import CliError

_TEMPLATE_HASH = "pod-template-hash"
"""A label that the Deployment's controller adds."""
_NUMBER = "deployment.kubernetes.io/revision"
_OUR_VARIABLES = frozenset({"AGENTSERVICE_REVISION", "POD_NAME", "ENVIRONMENT"})
_OUR_VOLUMES = frozenset({"config", "secrets", "tmp"})


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision. `config` is None when its ConfigMap is gone; `number` grows with each rollout, an old one's too."""

    number: int
    name: str
    current: bool
    created: str
    template: Manifest = field(repr=False)
    config: Manifest | None = field(repr=False)

    @property
    def image(self) -> str:
        return text(_container(self.template), "image")

    @property
    def model(self) -> str:
        return text(self.config, "model", "name")


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """What brings a revision back: a JSON merge patch of the specification, and what there is to say about it."""

    spec_patch: Manifest
    notes: tuple[str, ...]


def revisions(
    deployment: Manifest, replica_sets: Sequence[Manifest], config_maps: Sequence[Manifest]
) -> tuple[Revision, ...]:
    """Return the revisions, the newest first.

    The current one is the newest that has the Deployment's own pod template. The Deployment's revision number is not
    asked: its controller writes it only after it has numbered the ReplicaSet, and until then it names the one before.
    """
    uid, current = text(deployment, "metadata", "uid"), _name(part(deployment, "spec", "template"))
    configs = {text(config_map, "metadata", "name"): config_map for config_map in config_maps}
    owned = sorted(
        (
            replica_set
            for replica_set in replica_sets
            if any(owner.get("uid") == uid for owner in entries(replica_set, "metadata", "ownerReferences"))
        ),
        key=_number,
        reverse=True,
    )
    templates = [part(replica_set, "spec", "template") for replica_set in owned]
    serving = next((index for index, template in enumerate(templates) if _name(template) == current), None)
    return tuple(
        Revision(
            number=_number(replica_set),
            name=_name(template),
            current=index == serving,
            created=text(replica_set, "metadata", "creationTimestamp"),
            template=template,
            config=_config(configs, template),
        )
        for index, (replica_set, template) in enumerate(zip(owned, templates, strict=True))
    )


def choose(found: Sequence[Revision], wanted: str | None) -> tuple[Revision, Revision]:
    """Return the current revision and the one to go back to: the one before it, or `wanted` (number or hash).

    Revisions before it of the same specification, whose pods were replaced because of a Secret, are passed over.

    Raises CliError that lists what there is.
    """
    current = next((revision for revision in found if revision.current), None)
    if current is None:
        raise CliError(
            "no revision is current: nothing was rolled out yet", mend="wait until the first rollout is done"
        )
    listing = ", ".join(f"{r.number} ({r.name}{', current' if r.current else ''})" for r in found)
    if wanted is None:
        before = (revision for revision in found if revision.number < current.number)
        target = next((revision for revision in before if not _differ_in_secrets_alone(current, revision)), None)
        if target is None:
            raise CliError("there is no earlier revision of another specification", mend=f"revisions kept: {listing}")
    else:
        target = next((r for r in found if wanted in (str(r.number), r.name)), None)
        if target is None:
            raise CliError(f"there is no revision {wanted}", mend=f"revisions kept: {listing}")
        if target.current:
            raise CliError(f"revision {wanted} is the current one", mend=f"revisions kept: {listing}")
    lost = next((revision for revision in (target, current) if revision.config is None), None)
    if lost is not None:
        raise CliError(
            f"the configuration of revision {lost.number} is gone", mend=f"take another with --to-revision: {listing}"
        )
    return current, target


def restoration(
    spec: Mapping[str, Any], current: Revision, target: Revision, *, platform_image: str = ""
) -> Restoration:
    """Return what turns `spec`, of which `current` was made, into one of which `target` would be made.

    `platform_image` is what an agent that names no image gets; empty: not known.
    """
    patch = merge_patch(_of_config(current.config or {}), _of_config(target.config or {}))
    notes = list[str]()
    agent = part(patch, "agent")
    if "instructions" in agent and member(spec, "agent", "instructionsFrom") is not None:
        agent["instructionsFrom"] = None
        notes.append(
            "agent.instructionsFrom is replaced by the text that the revision had: a revision keeps the text, not the reference"
        )
    runtime = {**part(patch, "runtime"), **_of_templates(current.template, target.template)}
    if runtime:
        patch["runtime"] = runtime
    if platform_image and runtime.get("image") == platform_image:
        runtime["image"] = None
    if runtime.get("image") and not member(spec, "runtime", "image"):
        notes.append(f"runtime.image is pinned to {runtime['image']}: the specification had none until now")
    absent = [path for path in _removals(patch) if member(spec, *path.split(".")) is None]
    if absent:
        notes.append(
            f"not in the specification, so not to be taken out: {', '.join(absent)} (the platform's defaults?)"
        )
    return Restoration(spec_patch=_needed(patch, spec), notes=tuple(notes))


def left_over(template: Manifest, target: Revision) -> tuple[str, ...]:
    """Return where a rendered pod template would still differ from the revision's, as far as the operator writes both."""
    return tuple(paths(_written(target.template), _written(template)))


def config_map_of(template: Manifest) -> str:
    """Return the name of the ConfigMap that a pod template mounts as the runtime's configuration; empty: none."""
    volumes = entries(template, "spec", "volumes")
    return next((text(v, "configMap", "name") for v in volumes if v.get("name") == "config"), "")


def _of_config(config: Manifest) -> Manifest:
    """Return the part of a specification that a runtime configuration stands for."""
    spec: Manifest = {key: config[key] for key in ("agent", "model", "auth", "observability") if key in config}
    if any(_is_generated(token) for token in entries(config, "auth", "tokens")):
        spec["auth"] = {key: value for key, value in part(config, "auth").items() if key != "tokens"}
    if "concurrencyPerPod" in part(config, "serving"):
        spec["runtime"] = {"concurrencyPerPod": config["serving"]["concurrencyPerPod"]}
    return spec


def _is_generated(token: Manifest) -> bool:
    reference = part(token, "valueFrom", "secretKeyRef")
    return (
        token.get("name") == "generated"
        and reference.get("key") == GENERATED_TOKEN_KEY
        and "-token-" in text(reference, "name")
    )


def _of_templates(current: Manifest, target: Manifest) -> Manifest:
    """Return the merge patch of spec.runtime for what stands in pod templates alone."""
    patch: Manifest = {}
    for name, read in _RUNTIME.items():
        before, after = read(current), read(target)
        if before != after:
            patch[name] = after or None
    return patch


def _environment(template: Manifest) -> list[Manifest]:
    """Return the user's variables, without the defaults that the API server writes into them."""
    found = list[Manifest]()
    for entry in entries(_container(template), "env"):
        if entry.get("name") in _OUR_VARIABLES:
            continue
        path = text(entry, "valueFrom", "fieldRef", "fieldPath")
        found.append({**entry, "valueFrom": {"fieldRef": {"fieldPath": path}}} if path else entry)
    return found


def _volumes(template: Manifest) -> list[Manifest]:
    return [v for v in entries(template, "spec", "volumes") if v.get("name") not in _OUR_VOLUMES]


def _mounts(template: Manifest) -> list[Manifest]:
    return [m for m in entries(_container(template), "volumeMounts") if m.get("name") not in _OUR_VOLUMES]


_RUNTIME: Mapping[str, Callable[[Manifest], Any]] = {
    "image": lambda template: text(_container(template), "image"),
    "env": _environment,
    "envFrom": lambda template: entries(_container(template), "envFrom"),
    "resources": lambda template: part(_container(template), "resources"),
    "imagePullSecrets": lambda template: entries(template, "spec", "imagePullSecrets"),
    "nodeSelector": lambda template: part(template, "spec", "nodeSelector"),
    "tolerations": lambda template: entries(template, "spec", "tolerations"),
    "volumes": _volumes,
    "volumeMounts": _mounts,
    "podAnnotations": lambda template: {
        key: value for key, value in part(template, "metadata", "annotations").items() if key != ANNOTATION_SECRETS
    },
}
"""A field of spec.runtime, and how a pod template says it."""


def _written(template: Manifest) -> Manifest:
    runtime = {name: read(template) for name, read in _RUNTIME.items() if name != "volumes"}
    return {
        **{f"runtime.{name}": value for name, value in runtime.items()},
        "runtime.serviceAccountName": text(template, "spec", "serviceAccountName"),
        "runtime.priorityClassName": text(template, "spec", "priorityClassName"),
        "the agent's configuration": config_map_of(template),
        "the Secrets that its pods read": text(template, "metadata", "annotations", ANNOTATION_SECRETS),
    }


def _differ_in_secrets_alone(current: Revision, other: Revision) -> bool:
    """Tell whether pods of `other` were replaced by those of `current` because a Secret had changed, and for nothing else."""

    def rest(revision: Revision) -> Manifest:
        metadata = part(revision.template, "metadata")
        annotations = {k: v for k, v in part(metadata, "annotations").items() if k != ANNOTATION_SECRETS}
        labels = {k: v for k, v in part(metadata, "labels").items() if k not in (LABEL_REVISION, _TEMPLATE_HASH)}
        return {**revision.template, "metadata": {"annotations": annotations, "labels": labels}}

    return current.name != other.name and rest(current) == rest(other)


def _removals(patch: Manifest, path: str = "") -> Iterator[str]:
    for key, value in patch.items():
        where = f"{path}.{key}" if path else key
        if value is None:
            yield where
        elif isinstance(value, dict):
            yield from _removals(part(patch, key), where)


def _needed(patch: Manifest, spec: object) -> Manifest:
    """Return the patch without what `spec` says already, and without removals of what is not there."""
    result: Manifest = {}
    for key, value in patch.items():
        here = member(spec, key)
        if isinstance(value, dict) and isinstance(here, dict):
            below = _needed(part(patch, key), part(spec, key))
            if below:
                result[key] = below
        elif value != here:
            result[key] = value
    return result


def _container(template: Manifest) -> Manifest:
    return next((c for c in entries(template, "spec", "containers") if c.get("name") == "agent"), Manifest())


def _config(config_maps: Mapping[str, Manifest], template: Manifest) -> Manifest | None:
    content = text(config_maps.get(config_map_of(template)), "data", CONFIG_FILE)
    return json.loads(content) if content else None


def _name(template: Manifest) -> str:
    return text(template, "metadata", "labels", LABEL_REVISION)


def _number(manifest: Manifest) -> int:
    return number(manifest, "metadata", "annotations", _NUMBER)
