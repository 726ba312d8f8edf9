"""Decides the condition ScalingActive: whether the number of pods follows the load, in the autoscaler's own words where it does not."""

from __future__ import annotations

from typing import cast

from agentservice_api import AgentServiceSpec, Reason
from agentservice_api.spec import AutoscalingProvider
from agentservice_operator.manifest import Manifest
from agentservice_operator.rollout import Verdict


def scaling_active(spec: AgentServiceSpec, autoscaler: Manifest | None) -> Verdict | None:
    """Return the verdict; None without autoscaling."""
    scaling = spec.autoscaling
    if scaling is None:
        return None
    verdict = _verdict(spec, autoscaler, by_hpa=scaling.provider is AutoscalingProvider.HPA)
    if spec.replicas == 1:  # the schema's default, which everybody has
        return verdict
    message = (
        f"{verdict.message}; spec.replicas ({spec.replicas}) is without effect beside spec.autoscaling: take it out"
    )
    return Verdict(status=verdict.status, reason=verdict.reason, message=message)


def _verdict(spec: AgentServiceSpec, autoscaler: Manifest | None, *, by_hpa: bool) -> Verdict:
    if spec.suspend:
        return Verdict(status="False", reason=Reason.SUSPENDED, message="no pods run, because spec.suspend is true")
    if not by_hpa:
        return Verdict(
            status="True", reason=Reason.SCALED_EXTERNALLY, message="somebody else writes the Deployment's replicas"
        )
    conditions = cast("list[Manifest]", ((autoscaler or {}).get("status") or {}).get("conditions") or [])
    told = {condition["type"]: condition for condition in conditions}
    for kind in ("AbleToScale", "ScalingActive"):
        found = told.get(kind)
        if found is not None and found.get("status") != "True":
            message = f"{found.get('reason')}: {found.get('message')}"
            return Verdict(status="False", reason=Reason.NOT_SCALING, message=message)
    if "ScalingActive" not in told:
        return Verdict(
            status="Unknown",
            reason=Reason.AUTOSCALER_PENDING,
            message="the HorizontalPodAutoscaler has not looked at its metric yet",
        )
    return Verdict(status="True", reason=Reason.SCALING, message="the HorizontalPodAutoscaler sees its metric and acts")
