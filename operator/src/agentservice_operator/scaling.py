"""Decides whether the number of pods may follow the load, and the condition ScalingActive, which says whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, cast

from agentservice_api import AgentServiceSpec, Reason, names
from agentservice_api.series import PodSeries
from agentservice_api.spec import AutoscalingProvider, AutoscalingSpec
from agentservice_operator.budget import Standing
from agentservice_operator.manifest import ChildKey, Manifest, Owner
from agentservice_operator.plan import controller, controller_uid
from agentservice_operator.render import Rendered
from agentservice_operator.render.autoscaler import scales_out
from agentservice_operator.render.fleet import scales_workers
from agentservice_operator.rollout import Observation, Verdict

OFF_PERCENT: Final = 98
"""With so much of a window spent, more pods could not serve more."""
ON_PERCENT: Final = 90
"""Scale-out is on again below: a limit was raised, or a window has begun. Between the two it stays as it is."""

_NO_KEDA: Final = (
    "KEDA (keda.sh/v1alpha1) is not installed in this cluster, so the number of pods stays as it is: install it, or use provider HPA. "
    "The ScaledObject is made by itself then"
)
_NO_CUSTOM_METRICS: Final = (
    "the cluster serves no custom metrics API (custom.metrics.k8s.io), so that autoscaling.inFlightPerPod scales nothing: install an adapter, "
    f"such as prometheus-adapter, that serves {PodSeries.ACTIVE} of pods, use provider KEDA, or take the field out"
)
_NO_PROMETHEUS: Final = "autoscaling.inFlightPerPod with provider KEDA needs a Prometheus: set the chart's value keda.prometheusAddress, or take the field out"


def is_held_back(budget: Standing | None, autoscaler: Manifest | None) -> bool:
    """Tell whether scale-out is to be off, with what ``autoscaler`` was told before."""
    if budget is None or not budget.budget.is_hard:
        return False
    was_off = autoscaler is not None and not scales_out(autoscaler)
    if not budget.windows:
        return was_off
    return max(window.level for window in budget.windows) >= (ON_PERCENT if was_off else OFF_PERCENT)


def needs_custom_metrics(spec: AgentServiceSpec) -> bool:
    """Tell whether a HorizontalPodAutoscaler is to scale by what the pods measure themselves."""
    scaling = spec.autoscaling
    return scaling is not None and scaling.provider is AutoscalingProvider.HPA and scaling.in_flight_per_pod is not None


def leaves_keda(owner: Owner, rendered: Rendered, observed: Mapping[ChildKey, Manifest]) -> set[str]:
    """Return the Deployments whose number is to be somebody else's, and may still be written by KEDA."""
    decided = {
        child["metadata"]["name"]
        for child in rendered.children
        if child["kind"] == "HorizontalPodAutoscaler" or (child["kind"] == "Deployment" and "replicas" in child["spec"])
    }
    return decided & scaled_by_keda(owner, observed)


def scaled_by_keda(owner: Owner, observed: Mapping[ChildKey, Manifest]) -> set[str]:
    """Return the Deployments whose number KEDA may write: its ScaledObject is there, or the autoscaler that it made of it.

    KEDA holds a deleted ScaledObject by a finalizer until it has let go of it, and the autoscaler goes after that. The
    autoscaler carries the ScaledObject's labels, ours among them.
    """
    found: set[str] = set()
    for key, live in observed.items():
        holder = controller(live) or {}
        if key.kind == "ScaledObject" and controller_uid(live) == owner.uid:
            found.add(key.name)
        elif key.kind == "HorizontalPodAutoscaler" and holder.get("kind") == "ScaledObject":
            found.add(str(holder.get("name")))
    return found & {owner.name, names.workers_name(owner.name)}


def scaling_active(spec: AgentServiceSpec, observation: Observation, *, has_prometheus: bool = True) -> Verdict | None:
    """Return the verdict; None without autoscaling. ``has_prometheus`` tells whether KEDA can be told where one is."""
    scaling = spec.autoscaling
    if scaling is None:
        return None
    verdict = _verdict(spec, scaling, observation, has_prometheus=has_prometheus)
    if verdict.status == "True" and scales_workers(spec):
        seen = replace(observation, autoscaler=observation.workers.autoscaler if observation.workers else None)
        workers = _verdict(spec, scaling, seen, has_prometheus=has_prometheus)
        if workers.status != "True":
            verdict = replace(workers, message=f"workers: {workers.message}")
    if spec.replicas == 1:  # the schema's default, which everybody has
        return verdict
    message = (
        f"{verdict.message}; spec.replicas ({spec.replicas}) is without effect beside spec.autoscaling: take it out"
    )
    return Verdict(status=verdict.status, reason=verdict.reason, message=message)


def _verdict(
    spec: AgentServiceSpec, scaling: AutoscalingSpec, observation: Observation, *, has_prometheus: bool
) -> Verdict:
    if spec.suspend:
        return Verdict(status="False", reason=Reason.SUSPENDED, message="no pods run, because spec.suspend is true")
    match scaling.provider:
        case AutoscalingProvider.EXTERNAL:
            return Verdict(
                status="True", reason=Reason.SCALED_EXTERNALLY, message="somebody else writes the Deployment's replicas"
            )
        case AutoscalingProvider.HPA if scaling.in_flight_per_pod is not None and not observation.has_custom_metrics:
            return Verdict(status="False", reason=Reason.CUSTOM_METRICS_MISSING, message=_NO_CUSTOM_METRICS)
        case AutoscalingProvider.HPA:
            told = _told(observation.autoscaler, "HorizontalPodAutoscaler")
            refused = _refusal(told, "AbleToScale", "ScalingActive")
            pending = "ScalingActive" not in told
        case AutoscalingProvider.KEDA:
            if not observation.has_keda:
                return Verdict(status="False", reason=Reason.KEDA_MISSING, message=_NO_KEDA)
            if scaling.in_flight_per_pod is not None and not has_prometheus:
                return Verdict(status="False", reason=Reason.PROMETHEUS_UNKNOWN, message=_NO_PROMETHEUS)
            told = _told(observation.autoscaler, "ScaledObject")
            refused = _paused(told) or _refusal(told, "Ready", "HPAActive")
            pending = told.get("Ready", {}).get("status") != "True"
    if refused is not None:
        return refused
    who = "the HorizontalPodAutoscaler" if scaling.provider is AutoscalingProvider.HPA else "KEDA"
    if pending:
        return Verdict(
            status="Unknown", reason=Reason.AUTOSCALER_PENDING, message=f"{who} has not looked at its metric yet"
        )
    if observation.autoscaler is not None and not scales_out(observation.autoscaler):
        return Verdict(
            status="False",
            reason=Reason.SCALE_OUT_OFF,
            message=f"{OFF_PERCENT} % of the budget is spent, so that more pods could not serve more: only scale-in goes on, "
            "until a window begins or a limit is raised",
        )
    return Verdict(status="True", reason=Reason.SCALING, message=f"{who} sees its metric and acts")


def _told(autoscaler: Manifest | None, kind: str) -> dict[str, Manifest]:
    """Return the conditions by type of an autoscaler that is of the wanted kind."""
    if autoscaler is None or autoscaler["kind"] != kind:
        return {}
    conditions = cast("list[Manifest]", (autoscaler.get("status") or {}).get("conditions") or [])
    return {condition["type"]: condition for condition in conditions}


def _refusal(told: Mapping[str, Manifest], *kinds: str) -> Verdict | None:
    """Return the first of these conditions that is bad news. One without a reason has not been judged yet."""
    for kind in kinds:
        found = told.get(kind)
        if found is not None and found.get("status") != "True" and found.get("reason"):
            message = f"{found.get('reason')}: {found.get('message')}"
            return Verdict(status="False", reason=Reason.NOT_SCALING, message=message)
    return None


def _paused(told: Mapping[str, Manifest]) -> Verdict | None:
    if told.get("Paused", {}).get("status") != "True":
        return None
    return Verdict(
        status="False",
        reason=Reason.NOT_SCALING,
        message="the ScaledObject is paused: take its annotation autoscaling.keda.sh/paused or paused-replicas away",
    )
