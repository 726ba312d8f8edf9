"""A PodDisruptionBudget is there as long as two pods or more are wanted."""

from __future__ import annotations

from typing import Any

from .operator_process import OperatorProcess, Workbench, eventually


def budget(at: Workbench) -> dict[str, Any] | None:
    found = at.list("PodDisruptionBudget", of="agent")
    return found[0] if found else None


def test_it_comes_with_the_second_pod_and_goes_with_it(operator: OperatorProcess, at: Workbench):
    at.agent(replicas=1)
    at.serves()
    assert budget(at) is None
    at.patch("AgentService", "agent", {"spec": {"replicas": 2}})
    made = eventually("it is made", lambda: budget(at))
    assert made["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"agentservice.dev/name": "agent"}},
    }
    at.patch("AgentService", "agent", {"spec": {"suspend": True}})
    eventually("it goes where no pod is wanted", lambda: budget(at) is None)
    at.patch("AgentService", "agent", {"spec": {"suspend": None}})
    eventually("it is back", lambda: budget(at))
    at.patch("AgentService", "agent", {"spec": {"replicas": 1}})
    eventually("one pod needs none", lambda: budget(at) is None)


def test_it_is_restored_whoever_edits_or_deletes_it(operator: OperatorProcess, at: Workbench):
    at.agent(replicas=3)
    at.serves()
    before = eventually("it is made", lambda: budget(at))
    at.patch("PodDisruptionBudget", "agent", {"spec": {"maxUnavailable": 3}})
    eventually("the edit is undone", lambda: (budget(at) or {})["spec"] == before["spec"])
    at.delete("PodDisruptionBudget", "agent")
    again = eventually("it is back", lambda: budget(at))
    assert again["metadata"]["uid"] != before["metadata"]["uid"]
