"""Decides whether durations and the rollout fit together, also where a part comes from the platform's defaults.

CEL says the same of what the author wrote; the platform's `agentDefaults` are merged below it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentservice_api.problem import Problem
from agentservice_api.spec import AgentServiceSpec


def timing_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    """Yield durations that contradict each other, and a rollout that could never move."""
    limits = spec.agent.limits
    least = limits.run_timeout_seconds + 10
    if spec.drain_timeout_seconds < least and not spec.queue.enabled:
        yield Problem(
            "spec.runtime.drainTimeoutSeconds",
            f"is {spec.drain_timeout_seconds}, perhaps by the platform's agentDefaults, and agent.limits.runTimeoutSeconds + 10 is {least}, so a "
            "stopping pod would cut runs: raise it, lower runTimeoutSeconds, or enable the queue",
        )
    if {str(spec.rollout.max_surge), str(spec.rollout.max_unavailable)} <= {"0", "0%"}:
        yield Problem(
            "spec.rollout",
            "maxSurge and maxUnavailable are both 0, perhaps by the platform's agentDefaults: raise one, or the rollout could never move",
        )
