"""Builders of the objects that the pure modules read: AgentServices, Deployments, pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentservice_api import AgentService
from agentservice_operator.render import Platform, Rendered, render
from agentservice_operator.secret_reader import SecretReader

UID = "1f0c9a2b-0000-0000-0000-000000000000"
PLATFORM = Platform(runtime_image="registry.example/runtime:1")


def agent_service(**spec: Any) -> AgentService:
    """An AgentService `team-a/support` with the smallest specification, and ``spec`` over it."""
    return AgentService.model_validate(
        {
            "metadata": {"name": "support", "namespace": "team-a", "uid": UID, "generation": 1},
            "spec": {"agent": {"instructions": "Answer briefly."}, "model": {"name": "test"}, **spec},
        }
    )


def rendered(**spec: Any) -> Rendered:
    return render(agent_service(**spec), platform=PLATFORM)


def secret_reader(
    client: Any,
    *,
    clock: Callable[[], float] = lambda: 0.0,
    random: Callable[[], float] = lambda: 0.5,
    new_key: Callable[[int], bytes] = bytes,
) -> SecretReader:
    """A reader that looks every 60 seconds, exactly where ``random`` is 0.5."""
    return SecretReader(
        client=client,
        namespace="agentservice-system",
        key_name="operator-digest-key",
        interval=60,
        clock=clock,
        random=random,
        new_key=new_key,
    )


def child(result: Rendered, kind: str) -> dict[str, Any]:
    return next(c for c in result.children if c["kind"] == kind)


@pytest.fixture
def build():
    return agent_service
