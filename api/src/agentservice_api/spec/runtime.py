"""Decides what `spec.runtime` may say: the pods' image, environment, resources, probes and placement."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, IntOrString, ListType, Model, Rule, Rules
from agentservice_api.spec.references import (
    Annotations,
    EnvFromSource,
    EnvVar,
    Labels,
    ListItemName,
    LocalObjectReference,
    NameOrEmpty,
    OpenObject,
)

Quantity = Annotated[
    int | Annotated[str, StringConstraints(max_length=32)],
    IntOrString(),
    Rules(
        (
            Rule(
                # no regex: before Kubernetes 1.32 its cost is estimated as if the string had no bound
                rule="type(self) == int ? self >= 0 : isQuantity(self) && !self.startsWith('-')",
                message="write a quantity that is not negative, for instance 250m, 2, 512Mi or 1Gi",
            ),
        )
    ),
]
"""A Kubernetes quantity."""


class ImagePullPolicy(StrEnum):
    """When the kubelet pulls the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


ResourceAmounts = Annotated[
    dict[str, Quantity],
    Field(max_length=12),
    Rules(
        (
            Rule(
                rule="self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || k.contains('/'))",
                message="a resource is cpu, memory, ephemeral-storage, hugepages-SIZE or one with a domain such as nvidia.com/gpu",
            ),
        )
    ),
]


class Resources(Model):
    """CPU, memory and other resources of the agent's container."""

    requests: ResourceAmounts | None = Field(
        default=None, description="What the scheduler sets aside, for instance {cpu: 250m, memory: 256Mi}."
    )
    limits: ResourceAmounts | None = Field(
        default=None, description="What the container may not exceed, for instance {memory: 512Mi}."
    )


class Probe(Model):
    """Timing of a probe; what it asks is the runtime's business."""

    failure_threshold: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        default=None, description="Failures in a row that count as failed."
    )
    period_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        default=None, description="Seconds from one try to the next."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        default=None, description="Seconds that one try may take."
    )


class Probes(Model):
    """Timing of the three probes."""

    startup: Probe = Field(
        default=Probe(), description="While the process starts. Default: every second, at most 60 times."
    )
    readiness: Probe = Field(default=Probe(), description="Whether the pod takes requests. Default: every 5 seconds.")
    liveness: Probe = Field(
        default=Probe(), description="Whether the process must be restarted. Default: every 10 seconds, 3 failures."
    )


_SOURCES = ("configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim", "csi")


class Volume(Model):
    """A volume of the pod. There is no hostPath."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=" + ".join(f"(has(self.{source}) ? 1 : 0)" for source in _SOURCES) + " == 1",
            message=f"a volume needs exactly one of {', '.join(_SOURCES)}",
        ),
        Rule(
            rule="!(self.name in ['config', 'secrets', 'tmp', 'kube-api-access'])",
            message="the volume names config, secrets, tmp and kube-api-access are the operator's: choose another name",
            field_path=".name",
        ),
    )

    name: ListItemName = Field(description="Name by which volumeMounts mean this volume.")
    config_map: OpenObject | None = Field(default=None, description="Files from a ConfigMap, as in a pod.")
    secret: OpenObject | None = Field(default=None, description="Files from a Secret, as in a pod.")
    empty_dir: OpenObject | None = Field(default=None, description="An empty directory per pod, as in a pod.")
    projected: OpenObject | None = Field(default=None, description="Several sources in one directory, as in a pod.")
    persistent_volume_claim: OpenObject | None = Field(
        default=None, description="A PersistentVolumeClaim of this namespace, as in a pod."
    )
    csi: OpenObject | None = Field(default=None, description="A volume of a CSI driver, as in a pod.")


class VolumeMount(Model):
    """Where a volume appears in the agent's container."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!self.mountPath.matches('(^|/)[.]{1,2}(/|$)')",
            message="mountPath holds . or .. as a directory: write the path without them",
            field_path=".mountPath",
        ),
        Rule(
            rule="!has(self.subPath) || !(self.subPath.startsWith('/') || self.subPath.matches('(^|/)[.][.](/|$)'))",
            message="subPath is relative to the volume and holds no .. directory",
            field_path=".subPath",
        ),
        Rule(
            rule="!['/etc/agentservice', '/var/run/secrets/agentservice.dev', '/tmp'].exists(p, self.mountPath == p || "
            "self.mountPath.startsWith(p + '/'))",
            message="/etc/agentservice, /var/run/secrets/agentservice.dev and /tmp are the operator's: mount elsewhere",
            field_path=".mountPath",
        ),
    )

    name: ListItemName = Field(description="Name of one of runtime.volumes.")
    mount_path: Annotated[
        str,
        StringConstraints(min_length=2, max_length=512, pattern=r"^/[^:]+$"),
        Explained("mountPath is an absolute path without a colon, for instance /data"),
    ] = Field(description="Directory or file in the container where it appears: absolute, without a colon.")
    sub_path: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="A path inside the volume. Default: its root."
    )
    read_only: bool | None = Field(default=None, description="true: the container cannot write to it. Default false.")


class RuntimeSpec(Model):
    """The pods that run the agent."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            message="every entry of runtime.volumeMounts names an entry of runtime.volumes: add the volume or mend the name",
            field_path=".volumeMounts",
        ),
        Rule(
            rule="!has(self.serviceAccountName) || self.serviceAccountName == '' || !has(self.serviceAccountAnnotations) || "
            "size(self.serviceAccountAnnotations) == 0",
            message="runtime.serviceAccountAnnotations go on the ServiceAccount that the operator creates: annotate your own "
            "ServiceAccount, or remove serviceAccountName",
            field_path=".serviceAccountAnnotations",
        ),
    )

    image: (
        Annotated[
            str,
            StringConstraints(max_length=512, pattern=r"^([A-Za-z0-9][-A-Za-z0-9_./:@]*)?$"),
            Explained(
                "runtime.image is an image reference such as registry.example.com/acme/support:1.2: no scheme, no spaces"
            ),
            Rules(
                (
                    Rule(
                        rule="!self.contains('://')",
                        message="runtime.image holds a scheme: write registry.example.com/acme/support:1.2 without https://",
                    ),
                )
            ),
        ]
        | None
    ) = Field(
        default=None, description="Default: the chart's runtime image. Build your own on it to bring Python code."
    )
    image_pull_policy: ImagePullPolicy | None = Field(
        default=None,
        description="Always, IfNotPresent or Never. Default: Kubernetes' own (Always for :latest, else IfNotPresent).",
    )
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...], ListType("map", ("name",)), Field(max_length=16)
    ] = Field(default=(), description="Secrets with the registry's credentials. Default: the ServiceAccount's.")
    concurrency_per_pod: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Runs at once in one pod; more wait briefly, then 503 with Retry-After. Default 32."
    )
    env: Annotated[tuple[EnvVar, ...], ListType("map", ("name",)), Field(max_length=128)] = Field(
        default=(), description="Environment variables of the agent's container. Default: none."
    )
    env_from: Annotated[tuple[EnvFromSource, ...], ListType("atomic"), Field(max_length=32)] = Field(
        default=(), description="Secrets and ConfigMaps whose keys become environment variables. Default: none."
    )
    volumes: Annotated[tuple[Volume, ...], ListType("map", ("name",)), Field(max_length=32)] = Field(
        default=(), description="Volumes of the pod, beside the operator's own. Default: none."
    )
    volume_mounts: Annotated[tuple[VolumeMount, ...], ListType("map", ("mountPath",)), Field(max_length=32)] = Field(
        default=(), description="Where the volumes appear in the agent's container. Default: none."
    )
    resources: Resources | None = Field(
        default=None, description="Default: requests of 100m CPU and 256Mi memory, a memory limit of 512Mi."
    )
    probes: Probes = Field(
        default=Probes(), description="Timing of the three probes; what they ask is the runtime's business."
    )
    drain_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None,
        description="Seconds that a stopping pod may take to finish its runs. Default: agent.limits.runTimeoutSeconds + 10, and at least that "
        "without a queue; with one, tasks that are not finished by then go back to it.",
    )
    service_account_name: NameOrEmpty | None = Field(
        default=None,
        description="The pods' ServiceAccount, which must exist. Default, or empty: one is created, without any permission.",
    )
    service_account_annotations: Annotations = Field(
        default={}, description="Annotations of the created ServiceAccount: IRSA, workload identity."
    )
    pod_labels: Annotated[
        Labels,
        Rules(
            (
                Rule(
                    rule="self.all(k, !k.startsWith('agentservice.dev/') && !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/managed-by']))",
                    message="runtime.podLabels may not hold agentservice.dev/..., app.kubernetes.io/name or app.kubernetes.io/managed-by, "
                    "which are the operator's: remove them",
                ),
            )
        ),
    ] = Field(
        default={},
        description="Labels of the pods, beside the operator's own. They never enter a selector. Default: none.",
    )
    pod_annotations: Annotations = Field(default={}, description="Annotations of the pods. Default: none.")
    node_selector: Labels = Field(default={}, description="Labels that a node must have. Default: any node.")
    tolerations: Annotated[tuple[OpenObject, ...], ListType("atomic"), Field(max_length=32)] = Field(
        default=(), description="Taints of nodes that the pods tolerate, as in a pod. Default: none."
    )
    affinity: OpenObject | None = Field(
        default=None, description="Attraction to nodes and other pods, as in a pod. Default: none."
    )
    topology_spread_constraints: Annotated[tuple[OpenObject, ...], ListType("atomic"), Field(max_length=8)] | None = (
        Field(
            default=None,
            description="Default: spread over zones and hosts, maxSkew 1, ScheduleAnyway. An empty list: none.",
        )
    )
    priority_class_name: NameOrEmpty | None = Field(
        default=None, description="PriorityClass of the pods. Default, or empty: the cluster's default."
    )
