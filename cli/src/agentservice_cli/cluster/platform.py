"""Decides what the installation adds to every agent: the chart's agentDefaults and runtime image.

They stand in the environment of the operator's Deployment, which is found by its labels. Who may not read it, gives
them with `--defaults` and `--runtime-image`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from agentservice_api.spec import ImagePullPolicy
from agentservice_cli import __version__, manifests
from agentservice_cli.cluster.client import Cluster, RefusedError
from agentservice_cli.cluster.plain import Manifest, entries, text
from agentservice_cli.exits import CliError
from agentservice_operator.render import ApiServerAddresses, Platform

OPERATOR_SELECTOR = "app.kubernetes.io/part-of=agentservice"
DEFAULT_RUNTIME_IMAGE = f"localhost/agentservice-runtime:{__version__}"


@dataclass(frozen=True)
class Installation:
    """What is put below every AgentService. `origin` says where it was read."""

    platform: Platform
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    origin: str = ""


def offline(*, defaults_file: str | None, runtime_image: str | None) -> Installation:
    """Return what was typed: a file with agentDefaults, or with a chart's values that hold them. Raises CliError."""
    defaults: Mapping[str, Any] = _read_defaults(defaults_file) if defaults_file else {}
    return Installation(
        Platform(runtime_image=runtime_image or DEFAULT_RUNTIME_IMAGE), defaults, defaults_file or "no defaults"
    )


def chosen(
    cluster: Cluster, *, defaults_file: str | None, runtime_image: str | None
) -> tuple[Installation, tuple[str, ...]]:
    """Return what the cluster's operator is configured with, where nothing else was typed; and what had to be assumed.

    Raises CliError.
    """
    found, why = installed(cluster)
    typed = offline(defaults_file=defaults_file, runtime_image=runtime_image)
    if found is None:
        if defaults_file and runtime_image:
            return typed, ()
        assumed = f"{why}: assumed are {typed.origin} and the runtime image {typed.platform.runtime_image}"
        return typed, (f"{assumed}; say otherwise with --defaults FILE and --runtime-image IMAGE",)
    platform = typed.platform if runtime_image else found.platform
    if defaults_file:
        return Installation(platform, typed.defaults, typed.origin), ()
    return Installation(platform, found.defaults, found.origin), ()


def installed(cluster: Cluster) -> tuple[Installation | None, str]:
    """Return what the cluster's operator is configured with, or None and why it cannot be told."""
    try:
        deployments = operator_deployments(cluster)
    except RefusedError as error:
        return None, f"the operator's settings cannot be read ({error.message})"
    if not deployments:
        return None, "no operator is installed in this cluster"
    environment = operator_environment(deployments[0])
    where = f"{deployments[0]['metadata']['namespace']}/{deployments[0]['metadata']['name']}"
    policy = environment.get("RUNTIME_IMAGE_PULL_POLICY") or "IfNotPresent"
    platform = Platform(
        runtime_image=environment.get("RUNTIME_IMAGE") or DEFAULT_RUNTIME_IMAGE,
        runtime_image_pull_policy=ImagePullPolicy(policy),
        api_server=_api_server(environment),
        prometheus=environment.get("PROMETHEUS_ADDRESS") or "",
    )
    defaults = cast("dict[str, Any]", json.loads(environment.get("AGENT_DEFAULTS") or "{}"))
    return Installation(platform, defaults, f"Deployment {where}"), ""


def _api_server(environment: Mapping[str, str]) -> ApiServerAddresses:
    given, usual = environment.get, ApiServerAddresses()
    cidrs, ports = given("API_SERVER_CIDRS"), given("API_SERVER_PORTS")
    return ApiServerAddresses(
        cidrs=tuple(cidrs.split(",")) if cidrs else usual.cidrs,
        ports=tuple(int(port) for port in ports.split(",")) if ports else usual.ports,
    )


def operator_deployments(cluster: Cluster) -> list[Manifest]:
    """Return the operator's Deployments, of all namespaces. Raises RefusedError."""
    return cluster.items("apps/v1", "Deployment", None, labelSelector=OPERATOR_SELECTOR)


def operator_environment(deployment: Manifest) -> dict[str, str]:
    """Return the plain environment of the operator's container."""
    containers = entries(deployment, "spec", "template", "spec", "containers")
    return {text(entry, "name"): text(entry, "value") for entry in entries(containers[0], "env")}


def _read_defaults(file: str) -> Mapping[str, Any]:
    content = manifests.plain(file)
    defaults = content.get("agentDefaults", content)
    if not isinstance(defaults, dict):
        raise CliError(f"{file}: agentDefaults must be a mapping", mend="it is a part of an AgentService's spec")
    return cast("dict[str, Any]", defaults)
