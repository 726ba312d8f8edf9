"""Decides whether the number of pods may follow the load, and the condition ScalingActive, which says whether it does."""

from __future__ import annotations

from typing import Final, cast

from agentservice_api import AgentServiceSpec, Reason
from agentservice_api.spec import AutoscalingProvider
from agentservice_operator.budget import Standing
from agentservice_operator.manifest import Manifest
from agentservice_operator.render.autoscaler import scales_out
from agentservice_operator.rollout import Verdict

OFF_PERCENT: Final = 98
"""With so much of a window spent, more pods could not serve more."""
ON_PERCENT: Final = 90
"""Scale-out is on again below: a limit was raised, or a window has begun. Between the two it stays as it is."""


def is_held_back(budget: Standing | None, autoscaler: Manifest | None) -> bool:
    """Tell whether scale-out is to be off, with what ``autoscaler`` was told before."""
    if budget is None or not budget.budget.is_hard:
        return False
    was_off = autoscaler is not None and not scales_out(autoscaler)
    if not budget.windows:
        return was_off
    return max(window.level for window in budget.windows) >= (ON_PERCENT if was_off else OFF_PERCENT)


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
    if autoscaler is not None and not scales_out(autoscaler):
        return Verdict(
            status="False",
            reason=Reason.SCALE_OUT_OFF,
            message=f"{OFF_PERCENT} % of the budget is spent, so that more pods could not serve more: only scale-in goes on, "
            "until a window begins or a limit is raised",
        )
    return Verdict(status="True", reason=Reason.SCALING, message="the HorizontalPodAutoscaler sees its metric and acts")
