"""Decides what `spec.queue` may say: tasks that outlive the connection of who asked, and who works them off."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentservice_api.schema import Model
from agentservice_api.spec.runtime import Resources


class Durability(StrEnum):
    """What of a task outlives the process that works on it."""

    NONE = "None"
    """The task: it is begun again from its input."""
    STEPS = "Steps"
    """Each step, in PostgreSQL: what the model and the tools have answered is not asked again."""


class QueueWorkers(Model):
    """Pods of their own that work off the queue and serve no requests."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Pods that work. With autoscaling.queuedTasksPerPod: how many there are at first. Default 1.",
    )
    resources: Resources | None = Field(
        default=None, description="CPU and memory of a worker's container. Default: runtime.resources."
    )


class QueueSpec(Model):
    """Tasks: runs that are asked for now and answered later, kept in the Redis of spec.redis."""

    enabled: bool = Field(default=False, description="Whether tasks are taken. Default false. Needs spec.redis.")
    concurrency_per_pod: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=4,
        description="Tasks at once in one pod, within runtime.concurrencyPerPod. Default 4.",
    )
    lease_seconds: Annotated[int, Field(ge=5, le=3600)] = Field(
        default=30,
        description="Seconds after which another pod takes the task of one that has died. A living pod renews its leases, so a task may "
        "take longer. Default 30.",
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3,
        description="How often a task is begun: again after its pod has died, and after failures that may pass. Default 3.",
    )
    result_ttl_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = Field(
        default=86_400,
        alias="resultTTLSeconds",
        description="Seconds that a finished task can be asked for its result. Default 86400.",
    )
    durability: Durability = Field(
        default=Durability.NONE,
        description="None: a task whose pod has died is begun again from its input. Steps: what its model and tools had answered is kept in the "
        "database of spec.postgres, and is neither asked nor paid for again. Default None.",
    )
    workers: QueueWorkers | None = Field(
        default=None,
        description="Pods of their own that work; those that serve only take tasks in. Absent: the pods that serve work too.",
    )
