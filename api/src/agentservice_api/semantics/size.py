"""Decides whether a specification's open objects are small and shallow enough to be stored and walked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from agentservice_api.problem import Problem
from agentservice_api.spec import AgentServiceSpec

MAX_DEPTH: Final = 64
"""Levels. Far more than a schema needs, far fewer than the interpreter's recursion limit."""
MAX_CONFIG_BYTES: Final = 900 * 1024
"""A ConfigMap may hold 1 MiB (its other fields included); the configuration of a revision is one."""


def size_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    """Yield a problem for each open object that is too deep, and for a configuration that fits no ConfigMap."""
    deep = False
    for field, value in open_objects(spec):
        if _depth_exceeds(value, MAX_DEPTH):
            deep = True
            yield Problem(field, f"is nested deeper than {MAX_DEPTH} levels: flatten it")
    if deep:
        return
    size = len(spec.agent.model_dump_json(by_alias=True).encode()) + len(spec.model.model_dump_json().encode())
    size += len(spec.budget.model_dump_json().encode()) if spec.budget is not None else 0
    if size > MAX_CONFIG_BYTES:
        yield Problem(
            "spec.agent",
            f"is too large for the ConfigMap that hands it to the pods: {size} of at most {MAX_CONFIG_BYTES} bytes; shorten "
            "instructions, promptTemplate or the schemas",
        )


def open_objects(spec: AgentServiceSpec) -> Iterator[tuple[str, Any]]:
    """Yield (field, value) for every object whose schema is not ours."""
    agent, runtime = spec.agent, spec.runtime
    if agent.input is not None:
        yield "spec.agent.input.schema", agent.input.schema_
    yield "spec.agent.outputSchema", agent.output_schema
    for index, capability in enumerate(agent.capabilities):
        yield f"spec.agent.capabilities[{index}].settings", capability.settings
    for field, model in spec.models:
        yield f"{field}.settings.extra", model.settings.extra
    for index, volume in enumerate(runtime.volumes):
        for source in ("config_map", "secret", "empty_dir", "projected", "persistent_volume_claim", "csi"):
            yield f"spec.runtime.volumes[{index}]", getattr(volume, source)
    for index, toleration in enumerate(runtime.tolerations):
        yield f"spec.runtime.tolerations[{index}]", toleration
    yield "spec.runtime.affinity", runtime.affinity
    for index, constraint in enumerate(runtime.topology_spread_constraints or ()):
        yield f"spec.runtime.topologySpreadConstraints[{index}]", constraint
    for index, entry in enumerate(runtime.env):
        if entry.value_from is not None:
            yield f"spec.runtime.env[{index}].valueFrom.fieldRef", entry.value_from.field_ref


def _depth_exceeds(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit + 1):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(cast("dict[Any, Any]", node).values())
            elif isinstance(node, list):
                below.extend(cast("list[Any]", node))
        if not below:
            return False
        level = below
    return True
