"""Decides what `spec.autoscaling` may say: who changes the number of pods, and between which bounds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from agentservice_api.schema import Model, Rule


class AutoscalingProvider(StrEnum):
    """Who writes the number of pods."""

    HPA = "HPA"
    """A HorizontalPodAutoscaler that the operator makes."""
    EXTERNAL = "External"
    """Somebody else writes the Deployment's replicas."""


class AutoscalingSpec(Model):
    """How the number of pods follows the load."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.maxReplicas) || (has(self.provider) && self.provider == 'External')",
            message="autoscaling.maxReplicas is needed with provider HPA: say how many pods there may be at most",
            field_path=".maxReplicas",
        ),
        Rule(
            rule="!has(self.maxReplicas) || self.maxReplicas >= (has(self.minReplicas) ? self.minReplicas : 1)",
            message="autoscaling.maxReplicas must be at least minReplicas (default 1): raise it or lower minReplicas",
            field_path=".maxReplicas",
        ),
    )

    provider: AutoscalingProvider = Field(
        default=AutoscalingProvider.HPA,
        description="HPA: a HorizontalPodAutoscaler that the operator makes. External: somebody else writes the Deployment's replicas. Default HPA.",
    )
    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Pods at least, and the number that a new or resumed agent begins with. Default 1."
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Pods at most. Needed with provider HPA."
    )
    cpu_utilization_percent: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=70, description="With provider HPA: mean CPU use of the pods, in percent of their request. Default 70."
    )
    scale_down_stabilization_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=300,
        description="With provider HPA: seconds for which fewer pods must suffice before one is taken away. Default 300.",
    )
