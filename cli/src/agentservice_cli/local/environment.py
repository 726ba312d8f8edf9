"""Decides the environment of a local run: `spec.runtime.env` and `envFrom`, with what the kubelet does to them.

envFrom first, in order; then env, where `$(NAME)` stands for an earlier variable and `$$(NAME)` for itself
(https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agentservice_api import AgentService
from agentservice_api.spec import EnvVar
from agentservice_cli.local.sources import Missing, SourceKind, Sources

_REFERENCE = re.compile(r"\$\$|\$\(([-._A-Za-z][-._A-Za-z0-9]*)\)")


@dataclass(frozen=True)
class Environment:
    """The variables, what they could not be read from, and fields of a pod that have no meaning here."""

    variables: Mapping[str, str]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]


def environment(resource: AgentService, sources: Sources, *, pod: str) -> Environment:
    """Return the agent's environment as `spec` asks for it, in a process that is called `pod`. Values of Secrets are in it: never print it."""
    runtime = resource.spec.runtime
    variables: dict[str, str] = {}
    missing: list[Missing] = []
    notes: list[str] = []
    for index, source in enumerate(runtime.env_from):
        reference = source.secret_ref or source.config_map_ref
        if reference is None:
            continue
        kind = SourceKind.SECRET if source.secret_ref else SourceKind.CONFIG_MAP
        data = sources.of(kind).get(reference.name)
        if data is None:
            missing.append(Missing(kind, reference.name, "", f"spec.runtime.envFrom[{index}]"))
            continue
        for key, value in data.items():
            if "\0" not in (text := value.decode(errors="replace")) and "=" not in key:
                variables[f"{source.prefix or ''}{key}"] = text
    variables["ENVIRONMENT"] = resource.spec.observability.environment
    variables["POD_NAME"] = pod
    for entry in runtime.env:
        value = _value(entry, resource, sources, missing, notes, pod=pod)
        if value is not None:
            variables[entry.name] = expand(value, variables) if entry.value is not None else value
    return Environment(variables=variables, missing=tuple(missing), notes=tuple(notes))


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by an earlier variable; an unknown name stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        return variables.get(match.group(1), match.group())

    return _REFERENCE.sub(replacement, text)


def _value(
    entry: EnvVar, resource: AgentService, sources: Sources, missing: list[Missing], notes: list[str], *, pod: str
) -> str | None:
    source = entry.value_from
    if source is None:
        return entry.value or ""
    if source.field_ref is not None:
        path = str(source.field_ref.get("fieldPath", ""))
        value = _field(path, resource, pod=pod)
        if value is None:
            notes.append(f"env {entry.name}: {path} is a field of a pod and stays empty here")
        return value or ""
    reference = source.secret_key_ref or source.config_map_key_ref
    if reference is None:
        return ""
    kind = SourceKind.SECRET if source.secret_key_ref else SourceKind.CONFIG_MAP
    content = sources.value(kind, reference.name, reference.key)
    if content is None:
        missing.append(Missing(kind, reference.name, reference.key, f"spec.runtime.env {entry.name}"))
        return None
    return content.decode(errors="replace")


def _field(path: str, resource: AgentService, *, pod: str) -> str | None:
    known = {
        "metadata.name": pod,
        "metadata.namespace": resource.metadata.namespace,
        "metadata.uid": "local",
        "spec.nodeName": "localhost",
        "spec.serviceAccountName": resource.spec.runtime.service_account_name or resource.metadata.name,
        "status.hostIP": "127.0.0.1",
        "status.podIP": "127.0.0.1",
        "status.podIPs": "127.0.0.1",
    }
    match = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if match is None:
        return known.get(path)
    runtime = resource.spec.runtime
    return (runtime.pod_labels if match.group(1) == "labels" else runtime.pod_annotations).get(match.group(2))
