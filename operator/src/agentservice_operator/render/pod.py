"""Decides the pod: one container that passes Pod Security `restricted`, its files, probes and placement.

Entries of keyed lists carry every key of their list (a port its protocol): the ownership check compares them with
what the API server recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agentservice_api import AgentServiceSpec, RuntimeConfig, names
from agentservice_api.config import ROLE_VARIABLE, LedgerType, Role
from agentservice_api.schema import Model
from agentservice_api.spec import EnvVar, ImagePullPolicy, Probe, SecretKeySelector
from agentservice_operator.manifest import Manifest
from agentservice_operator.render.fleet import Fleet

PORT: Final = 8000
TOKEN_MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  a directory
"""Where every Kubernetes client looks for its credentials."""
_TOKEN_VOLUME: Final = "kube-api-access"  # noqa: S105  a volume's name
_TOKEN_SECONDS: Final = 3607
"""As long as Kubernetes' own admission asks for; the kubelet renews the file at 80 % of it."""
_GRACE_BEYOND_DRAIN_SECONDS: Final = 15
"""For what follows the drain: closing `deps`, and the kubelet's own delays."""
_DEFAULT_RESOURCES: Final[Manifest] = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}


def pod_template(
    fleet: Fleet,
    spec: AgentServiceSpec,
    *,
    config: RuntimeConfig,
    config_map: str,
    image: str,
    image_pull_policy: ImagePullPolicy,
    secret_digest: str | None,
) -> Manifest:
    """Return the pod template, without the label that names its revision."""
    runtime = spec.runtime
    secrets = tuple(secret_references(config))
    volumes, mounts = _volumes(config_map, secrets)
    if config.budget is not None and TOKEN_MOUNT_PATH not in {mount.mount_path for mount in runtime.volume_mounts}:
        volumes.append(_token_volume())
        mounts.append({"name": _TOKEN_VOLUME, "mountPath": TOKEN_MOUNT_PATH, "readOnly": True})
    identity = tuple(_identity()) if config.budget is not None else ()
    ours = {entry["name"] for entry in identity}
    container: Manifest = {
        "name": "agent",
        "image": image,
        "imagePullPolicy": image_pull_policy.value,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": [
            *_environment(fleet, spec),
            *identity,
            *(_env_var(entry) for entry in runtime.env if entry.name not in ours),
        ],
        "resources": _plain(fleet.resources) if fleet.resources else _DEFAULT_RESOURCES,
        **_probes(spec),
        "volumeMounts": [*mounts, *(_plain(mount) for mount in runtime.volume_mounts)],
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if runtime.env_from:
        container["envFrom"] = [_plain(source) for source in runtime.env_from]
    pod: Manifest = {
        "serviceAccountName": runtime.service_account_name or fleet.owner.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.drain_timeout_seconds + _GRACE_BEYOND_DRAIN_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [*volumes, *(_plain(volume) for volume in runtime.volumes)],
        **_placement(fleet, spec),
    }
    if runtime.image_pull_secrets:
        pod["imagePullSecrets"] = [_plain(secret) for secret in runtime.image_pull_secrets]
    meta: Manifest = {"labels": {**runtime.pod_labels, **fleet.pod_labels, **_ledger_label(config)}}
    digest = {} if secret_digest is None else {names.ANNOTATION_SECRETS: secret_digest}
    if runtime.pod_annotations or digest:
        meta["annotations"] = {**runtime.pod_annotations, **digest}
    return {"metadata": meta, "spec": pod}


def _ledger_label(config: RuntimeConfig) -> dict[str, str]:
    """Tell the operator which pods speak with the Redis that holds a part of their budget."""
    in_redis = config.budget is not None and config.budget.ledger is LedgerType.REDIS
    return {names.LABEL_LEDGER: LedgerType.REDIS.value} if in_redis else {}


def secret_references(config: RuntimeConfig) -> Iterator[SecretKeySelector]:
    """Yield each Secret key that the runtime reads as a file, once, in a stable order."""
    found: set[tuple[str, str]] = set()
    found.update(_name_and_key(model.api_key.secret_key_ref) for model in config.models if model.api_key is not None)
    if config.budget is not None and config.budget.redis_url is not None:
        found.add(_name_and_key(config.budget.redis_url.secret_key_ref))
    if config.cache is not None:
        found.add(_name_and_key(config.cache.redis_url.secret_key_ref))
    if config.queue is not None:
        found.add(_name_and_key(config.queue.redis_url.secret_key_ref))
        if config.queue.steps_url is not None:
            found.add(_name_and_key(config.queue.steps_url.secret_key_ref))
    if config.conversations is not None:
        found.add(_name_and_key(config.conversations.url.secret_key_ref))
    found.update(_name_and_key(source.secret_key_ref) for source in config.observability.secrets)
    for token in config.auth.tokens:
        found.add(_name_and_key(token.value_from.secret_key_ref))
    for server in config.agent.mcp_servers:
        for header in server.headers:
            found.add(_name_and_key(header.value_from.secret_key_ref))
    return (SecretKeySelector(name=name, key=key) for name, key in sorted(found))


def _name_and_key(reference: SecretKeySelector) -> tuple[str, str]:
    return reference.name, reference.key


def _volumes(config_map: str, secrets: tuple[SecretKeySelector, ...]) -> tuple[list[Manifest], list[Manifest]]:
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": config_map}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts: list[Manifest] = [
        {"name": "config", "mountPath": names.CONFIG_MOUNT_PATH, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the container's own, an emptyDir
    ]
    if secrets:
        # One projected volume: only the referenced keys, and all of them change in one step.
        sources = [
            {"secret": {"name": s.name, "items": [{"key": s.key, "path": f"{s.name}/{s.key}"}]}} for s in secrets
        ]
        volumes.append({"name": "secrets", "projected": {"sources": sources}})
        mounts.append({"name": "secrets", "mountPath": names.SECRETS_MOUNT_PATH, "readOnly": True})
    return volumes, mounts


def _token_volume() -> Manifest:
    """Return what Kubernetes' own admission would mount, which `automountServiceAccountToken: false` keeps away."""
    field: Manifest = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources: list[Manifest] = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": _TOKEN_VOLUME, "projected": {"sources": sources}}


def _identity() -> Iterator[Manifest]:
    """Yield by what a process names itself in the ledger. A value of the user's would let two pods be one."""
    for name, path in (("POD_NAMESPACE", "metadata.namespace"), ("POD_UID", "metadata.uid")):
        yield {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _environment(fleet: Fleet, spec: AgentServiceSpec) -> Iterator[Manifest]:
    if fleet.role is not Role.SERVER:
        yield {"name": ROLE_VARIABLE, "value": fleet.role.value}
    yield {
        "name": "AGENTSERVICE_REVISION",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{names.LABEL_REVISION}']"}},
    }
    given = {entry.name for entry in spec.runtime.env}
    if "POD_NAME" not in given:
        yield {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    if "ENVIRONMENT" not in given:
        yield {"name": "ENVIRONMENT", "value": spec.observability.environment}


def _env_var(entry: EnvVar) -> Manifest:
    plain = _plain(entry)
    # An empty value and no value at all are the same to Kubernetes, which stores neither: nothing to own.
    return {k: v for k, v in plain.items() if v != ""}


def _probes(spec: AgentServiceSpec) -> Manifest:
    probes = spec.runtime.probes
    return {
        "startupProbe": _probe("/ready", probes.startup, failures=60, period=1, timeout=2),
        "readinessProbe": _probe("/ready", probes.readiness, failures=3, period=5, timeout=2),
        "livenessProbe": _probe("/health", probes.liveness, failures=3, period=10, timeout=5),
    }


def _probe(path: str, given: Probe, *, failures: int, period: int, timeout: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "failureThreshold": given.failure_threshold or failures,
        "periodSeconds": given.period_seconds or period,
        "timeoutSeconds": given.timeout_seconds or timeout,
    }


def _placement(fleet: Fleet, spec: AgentServiceSpec) -> Manifest:
    runtime = spec.runtime
    placement: Manifest = {}
    constraints = runtime.topology_spread_constraints
    if constraints is None:
        constraints = tuple(
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": fleet.selector},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        )
    if constraints:
        placement["topologySpreadConstraints"] = list(constraints)
    if runtime.node_selector:
        placement["nodeSelector"] = dict(runtime.node_selector)
    if runtime.tolerations:
        placement["tolerations"] = list(runtime.tolerations)
    if runtime.affinity:
        placement["affinity"] = runtime.affinity
    if runtime.priority_class_name:
        placement["priorityClassName"] = runtime.priority_class_name
    return placement


def _plain(model: Model) -> dict[str, Any]:
    """Return a part of the specification as the manifest that it already is."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
