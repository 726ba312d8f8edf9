"""Decides whether what `spec.runtime` hands on to Kubernetes would be accepted there: image, resources, keys, volumes.

Kubernetes would refuse the Deployment, the ConfigMap or the pods only later, far from the field that is wrong.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentservice_api.problem import Problem
from agentservice_api.quantities import parse_quantity
from agentservice_api.semantics.fit import fault
from agentservice_api.semantics.pod_shapes import FIELD_REF, SPREAD, TOLERATION, VOLUME_SOURCES
from agentservice_api.spec import AgentServiceSpec, Resources, RuntimeSpec

_MAX_KEY: Final = 253 + 1 + 63
MAX_ANNOTATIONS_BYTES: Final = 256 * 1024
"""What Kubernetes takes for all annotations of one object."""

_DOMAIN: Final = r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?)"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{{32,}})?"
)
"""The grammar of https://pkg.go.dev/github.com/distribution/reference."""
_KEY: Final = re.compile(
    r"(?:(?P<prefix>[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""


def pod_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    """Yield what Kubernetes would refuse in the pods and in the Service's and ServiceAccount's metadata."""
    runtime = spec.runtime
    if runtime.image and _IMAGE.fullmatch(runtime.image) is None:
        yield Problem(
            "spec.runtime.image",
            f"{runtime.image[:200]} is no image reference: write registry.example.com/acme/support:1.2, the name in lower case",
        )
    if runtime.resources is not None:
        yield from _resource_problems(runtime.resources)
    yield from _key_problems(spec)
    yield from _mount_problems(runtime)
    yield from _open_problems(runtime)


def _resource_problems(resources: Resources) -> Iterator[Problem]:
    requests, limits = resources.requests or {}, resources.limits or {}
    parsed: dict[tuple[str, str], Any] = {}
    for kind, given in (("requests", requests), ("limits", limits)):
        for name, quantity in given.items():
            try:
                parsed[kind, name] = parse_quantity(quantity)
            except ValueError as error:
                yield Problem(f"spec.runtime.resources.{kind}.{name}", str(error))
    for name, quantity in requests.items():
        limit = parsed.get(("limits", name))
        request = parsed.get(("requests", name))
        if limit is not None and request is not None and request > limit:
            yield Problem(
                f"spec.runtime.resources.requests.{name}",
                f"is {quantity}, more than the limit {limits[name]}: lower the request or raise resources.limits.{name}",
            )


def _key_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    runtime = spec.runtime
    annotations = {
        "spec.runtime.podAnnotations": runtime.pod_annotations,
        "spec.runtime.serviceAccountAnnotations": runtime.service_account_annotations,
        "spec.network.service.annotations": spec.network.service.annotations,
        "spec.network.ingress.annotations": spec.network.ingress.annotations if spec.network.ingress else {},
    }
    labels = {"spec.runtime.podLabels": runtime.pod_labels, "spec.runtime.nodeSelector": runtime.node_selector}
    for field, given in {**labels, **annotations}.items():
        for key in given:
            match = _KEY.fullmatch(key) if len(key) <= _MAX_KEY else None
            if match is None or len(match["prefix"] or "") > 253:
                yield Problem(
                    f"{field}.{key[:80]}",
                    "is no legal key: write name or example.com/name, the name of at most 63 characters",
                )
    for field, given in annotations.items():
        for key in given:
            if key.startswith("agentservice.dev/"):
                yield Problem(
                    f"{field}.{key[:80]}",
                    "begins with agentservice.dev/, which is the operator's: choose another prefix",
                )
        if sum(len(key.encode()) + len(value.encode()) for key, value in given.items()) > MAX_ANNOTATIONS_BYTES:
            yield Problem(field, f"holds more than {MAX_ANNOTATIONS_BYTES} bytes, which Kubernetes refuses: shorten it")


def _mount_problems(runtime: RuntimeSpec) -> Iterator[Problem]:
    names = {volume.name for volume in runtime.volumes}
    seen: dict[str, int] = {}
    for index, mount in enumerate(runtime.volume_mounts):
        field = f"spec.runtime.volumeMounts[{index}]"
        if mount.name not in names:
            yield Problem(
                f"{field}.name", f"there is no volume {mount.name}: add it to runtime.volumes or mend the name"
            )
        first = seen.setdefault(posixpath.normpath(mount.mount_path), index)
        if first != index:
            yield Problem(f"{field}.mountPath", f"is the same place as volumeMounts[{first}].mountPath: choose another")


def _open_problems(runtime: RuntimeSpec) -> Iterator[Problem]:
    for index, toleration in enumerate(runtime.tolerations):
        yield from _shape_problems(toleration, TOLERATION, f"spec.runtime.tolerations[{index}]")
    for index, constraint in enumerate(runtime.topology_spread_constraints or ()):
        yield from _shape_problems(constraint, SPREAD, f"spec.runtime.topologySpreadConstraints[{index}]")
    for index, entry in enumerate(runtime.env):
        if entry.value_from is not None and entry.value_from.field_ref is not None:
            yield from _shape_problems(
                entry.value_from.field_ref, FIELD_REF, f"spec.runtime.env[{index}].valueFrom.fieldRef"
            )
    for index, volume in enumerate(runtime.volumes):
        for attribute, (name, shape) in VOLUME_SOURCES.items():
            source = getattr(volume, attribute)
            if source is not None:
                yield from _shape_problems(source, shape, f"spec.runtime.volumes[{index}].{name}")


def _shape_problems(value: Mapping[str, Any], shape: Mapping[str, Any], field: str) -> Iterator[Problem]:
    found = fault(value, shape, field=field)
    if found is not None:
        yield Problem(found[0], f"Kubernetes would refuse this: {found[1]}")
