"""What is shipped in `examples/`, and how a person asks an agent of it."""

from __future__ import annotations

import json
from typing import Any

from devcluster.settings import REPOSITORY

from .pods.agents import Agent
from .pods.kube import ApiError

EXAMPLES = REPOSITORY / "examples"


def run(agent: Agent, content: Any) -> tuple[int, dict[str, Any]]:
    """POST /v1/run through the agent's Service; return the status and the document."""
    path = f"/api/v1/namespaces/{agent.namespace}/services/{agent.name}:80/proxy/v1/run"
    try:
        return 200, json.loads(agent.kube.request("POST", path, body={"input": content}))
    except ApiError as error:
        return error.status, json.loads(str(error).partition(": ")[2])
