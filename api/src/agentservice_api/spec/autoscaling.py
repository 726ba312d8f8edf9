"""Decides what `spec.autoscaling` may say: who changes the number of pods, and between which bounds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from agentservice_api.schema import Model, Rule

DEFAULT_CPU_PERCENT: Final = 70


class AutoscalingProvider(StrEnum):
    """Who writes the number of pods."""

    HPA = "HPA"
    """A HorizontalPodAutoscaler that the operator makes."""
    KEDA = "KEDA"
    """A ScaledObject that the operator makes, for KEDA, which makes a HorizontalPodAutoscaler of it."""
    EXTERNAL = "External"
    """Somebody else writes the Deployment's replicas."""


class AutoscalingSpec(Model):
    """How the number of pods follows the load."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.maxReplicas) || (has(self.provider) && self.provider == 'External')",
            message="autoscaling.maxReplicas is needed with provider HPA and KEDA: say how many pods there may be at most",
            field_path=".maxReplicas",
        ),
        Rule(
            rule="!has(self.maxReplicas) || self.maxReplicas >= (has(self.minReplicas) ? self.minReplicas : 1)",
            message="autoscaling.maxReplicas must be at least minReplicas (default 1): raise it or lower minReplicas",
            field_path=".maxReplicas",
        ),
        Rule(
            rule="!has(self.inFlightPerPod) || !has(self.provider) || self.provider != 'External'",
            message="autoscaling.inFlightPerPod needs provider HPA or KEDA: with External somebody else decides by what is scaled",
            field_path=".inFlightPerPod",
        ),
        Rule(
            rule="!has(self.queuedTasksPerPod) || (has(self.provider) && self.provider == 'KEDA')",
            message="autoscaling.queuedTasksPerPod needs provider KEDA: nothing else sees the queue",
            field_path=".queuedTasksPerPod",
        ),
    )

    provider: AutoscalingProvider = Field(
        default=AutoscalingProvider.HPA,
        description="HPA: a HorizontalPodAutoscaler that the operator makes. KEDA: a ScaledObject that the operator makes, where KEDA is installed. "
        "External: somebody else writes the Deployment's replicas. Default HPA.",
    )
    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Pods at least, and the number that a new or resumed agent begins with. Default 1."
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Pods at most. Needed with provider HPA and KEDA."
    )
    cpu_utilization_percent: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="With provider HPA and KEDA: mean CPU use of the pods, in percent of their request. Default 70 where nothing else is "
        "scaled by, else none.",
    )
    in_flight_per_pod: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        default=None,
        description="Runs under way per pod, as the pods' metric pydantic_ai_active_requests tells. With provider HPA the cluster needs a custom "
        "metrics API that serves it, with KEDA the chart needs the address of a Prometheus. Default: not scaled by.",
    )
    queued_tasks_per_pod: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        default=None,
        description="With provider KEDA: tasks of the queue per pod, those that wait and those that are worked on. It scales the pods of queue.workers, "
        "from none to maxReplicas, and without such pods those that serve. The Secret of redis.urlFrom then also holds the key address (host:port). "
        "Default: not scaled by.",
    )
    scale_down_stabilization_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=300,
        description="With provider HPA and KEDA: seconds for which fewer pods must suffice before one is taken away. Default 300.",
    )

    def cpu_target(self, *, by_queue: bool) -> int | None:
        """Return the percent of the request, None where the pods are scaled by something else alone; ``by_queue``: they are scaled by the queue."""
        if self.cpu_utilization_percent is None and self.in_flight_per_pod is None and not by_queue:
            return DEFAULT_CPU_PERCENT
        return self.cpu_utilization_percent
