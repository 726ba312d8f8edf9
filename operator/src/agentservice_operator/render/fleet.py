"""Decides which sets of pods an agent has: those that serve, and those that work off its queue where these are pods of their own.

Both run the same image and read the same configuration; a variable tells a pod what it is for. Their labels have no key in common that
a selector names, so that no Service ever leads to a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentservice_api import AgentServiceSpec, names
from agentservice_api.config import Role
from agentservice_api.spec import AutoscalingProvider, Resources
from agentservice_operator.manifest import Owner


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One Deployment's pods. What belongs to it alone bears its name."""

    owner: Owner
    name: str
    role: Role
    label: str
    """The key by which alone its pods are selected; its value is the agent's name."""
    count: int | None
    """How many pods there are; None where an autoscaler decides it."""
    first: int
    """How many there are at first where an autoscaler decides it: in a new Deployment, or one that had none."""
    most: int | None
    """How many there may be; None where nobody bounds it."""
    resources: Resources | None

    @property
    def selector(self) -> dict[str, str]:
        """The labels that select the pods: one label, because a selector can never be changed."""
        return {self.label: self.owner.name}

    @property
    def pod_labels(self) -> dict[str, str]:
        return {
            **self.selector,
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            "app.kubernetes.io/name": "agentservice",
        }


def fleets(owner: Owner, spec: AgentServiceSpec) -> tuple[Fleet, ...]:
    """Return the pods that serve, and those that work where these are others."""
    workers = _workers(owner, spec)
    return (_servers(owner, spec), *((workers,) if workers is not None else ()))


def scales_workers(spec: AgentServiceSpec) -> bool:
    """Tell whether the number of workers follows the queue."""
    scaling = spec.autoscaling
    return (
        spec.queue.enabled
        and spec.queue.workers is not None
        and scaling is not None
        and scaling.provider is AutoscalingProvider.KEDA
        and scaling.queued_tasks_per_pod is not None
    )


def _servers(owner: Owner, spec: AgentServiceSpec) -> Fleet:
    scaling = spec.autoscaling
    count, most = (spec.replicas, spec.replicas) if scaling is None else (None, scaling.max_replicas)
    return Fleet(
        owner=owner,
        name=owner.name,
        role=Role.SERVER,
        label=names.LABEL_NAME,
        count=0 if spec.suspend else count,
        first=spec.replicas if scaling is None else scaling.min_replicas,
        most=0 if spec.suspend else most,
        resources=spec.runtime.resources,
    )


def _workers(owner: Owner, spec: AgentServiceSpec) -> Fleet | None:
    workers, scaling = spec.queue.workers, spec.autoscaling
    if workers is None or not spec.queue.enabled:
        return None
    scaled = scaling is not None and scales_workers(spec)
    return Fleet(
        owner=owner,
        name=names.workers_name(owner.name),
        role=Role.WORKER,
        label=names.LABEL_WORKERS,
        count=0 if spec.suspend else None if scaled else workers.replicas,
        first=workers.replicas,
        most=0 if spec.suspend else scaling.max_replicas if scaling is not None and scaled else workers.replicas,
        resources=workers.resources or spec.runtime.resources,
    )
