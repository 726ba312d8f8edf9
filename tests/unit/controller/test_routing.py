"""What is said of an HTTPRoute when several Gateways have their say."""

from __future__ import annotations

from typing import Any

from agentservice_api import Reason
from agentservice_operator.rollout import Verdict
from agentservice_operator.routing import route_accepted

from .builders import agent_service

EDGE, INNER = {"name": "edge"}, {"name": "inner", "namespace": "gateways", "sectionName": "https"}


def parent(reference: dict[str, str], *, accepted: str = "True", resolved: str = "True") -> dict[str, Any]:
    told = {"Accepted": accepted, "ResolvedRefs": resolved}
    conditions = [{"type": k, "status": v, "reason": "Why", "message": "words"} for k, v in told.items()]
    return {"parentRef": reference, "conditions": conditions}


def verdict(*parents: dict[str, Any], has_gateway_api: bool = True) -> Verdict | None:
    spec = agent_service(network={"httpRoute": {"parentRefs": [EDGE, INNER]}}).spec
    route = {"metadata": {"namespace": "team-a"}, "status": {"parents": list(parents)}}
    return route_accepted(spec, route, has_gateway_api=has_gateway_api)


def reason(*parents: dict[str, Any]) -> Reason | None:
    found = verdict(*parents)
    return found.reason if found else None


def test_all_named_gateways_must_take_it() -> None:
    assert reason(parent(EDGE), parent(INNER)) is Reason.ROUTED
    assert reason(parent(EDGE)) is Reason.ROUTE_PENDING
    assert reason() is Reason.ROUTE_PENDING


def test_one_that_refuses_is_told_before_one_that_has_not_looked() -> None:
    assert reason(parent(INNER, accepted="False")) is Reason.ROUTE_REFUSED
    found = verdict(parent(EDGE), parent(INNER, resolved="False"))
    assert found is not None
    assert (found.status, found.message) == ("False", "Gateway inner: Why: words")


def test_a_gateway_of_the_same_name_elsewhere_has_no_say() -> None:
    assert reason(parent(EDGE | {"namespace": "team-b"}), parent(INNER)) is Reason.ROUTE_PENDING
    assert reason(parent(EDGE | {"namespace": "team-a"}), parent(INNER)) is Reason.ROUTED
    assert reason(parent(EDGE), parent(INNER | {"sectionName": "http"})) is Reason.ROUTE_PENDING


def test_without_the_gateway_api_nothing_else_is_said_and_without_a_route_nothing_at_all() -> None:
    found = verdict(parent(EDGE), parent(INNER), has_gateway_api=False)
    assert found is not None
    assert found.reason is Reason.GATEWAY_API_MISSING
    assert route_accepted(agent_service().spec, None, has_gateway_api=False) is None
