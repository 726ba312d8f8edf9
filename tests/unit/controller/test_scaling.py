"""When more pods may come, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentservice_api import Reason
from agentservice_operator.render import hold_back
from agentservice_operator.render.autoscaler import scales_out
from agentservice_operator.scaling import is_held_back, scaling_active

from .builders import agent_service, child, rendered
from .test_budget import spent

SPEC: dict[str, Any] = {"autoscaling": {"maxReplicas": 9}, "budget": {"daily": {"tokens": 1000}}}
AGENT = agent_service(**SPEC)
FREE, HELD = (child(each, "HorizontalPodAutoscaler") for each in (rendered(**SPEC), hold_back(rendered(**SPEC))))


@pytest.mark.parametrize(
    ("tokens", "was_off", "is_off"),
    [(970, False, False), (980, False, True), (980, True, True), (900, True, True), (890, True, False)],
)
def test_scale_out_is_off_near_the_end_of_a_budget_and_not_on_again_at_once(
    tokens: int, was_off: bool, is_off: bool
) -> None:
    assert is_held_back(spent(tokens), HELD if was_off else FREE) is is_off


def test_scale_out_is_off_before_there_is_an_autoscaler_and_as_it_was_while_nobody_knows() -> None:
    assert is_held_back(spent(1000), None)
    unknown = replace(spent(0), windows=())
    assert is_held_back(unknown, HELD)
    assert not is_held_back(unknown, FREE)


def test_a_budget_that_does_not_refuse_and_none_at_all_hold_nothing_back() -> None:
    assert not is_held_back(spent(5000, budget={"enforcement": "Soft", "daily": {"tokens": 1000}}), HELD)
    assert not is_held_back(None, HELD)


def test_an_autoscaler_that_is_held_back_still_scales_in_and_says_why_not_out() -> None:
    assert scales_out(FREE)
    assert not scales_out(HELD)
    assert HELD["spec"]["behavior"] == {**FREE["spec"]["behavior"], "scaleUp": {"selectPolicy": "Disabled"}}
    assert HELD["spec"]["maxReplicas"] == 9
    assert HELD["metadata"]["annotations"] != FREE["metadata"]["annotations"], "it has to be written"
    healthy = [
        {"type": kind, "status": "True", "reason": "x", "message": ""} for kind in ("AbleToScale", "ScalingActive")
    ]
    verdict = scaling_active(AGENT.spec, {**HELD, "status": {"conditions": healthy}})
    assert verdict is not None
    assert (verdict.status, verdict.reason) == ("False", Reason.SCALE_OUT_OFF)
    verdict = scaling_active(AGENT.spec, {**FREE, "status": {"conditions": healthy}})
    assert verdict is not None
    assert verdict.status == "True"
