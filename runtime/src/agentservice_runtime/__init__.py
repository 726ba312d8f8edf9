"""The program in each agent pod: a Pydantic AI agent behind an HTTP API.

For the code of an agent: `Deps`. For who serves one: `agentservice_runtime.serve.serve`, `agentservice_runtime.app.create_app`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentservice_runtime.deps import Deps

__all__ = ["Deps"]

# Where logfire is installed pydantic would import it, with OpenTelemetry's SDK, for every agent: half a second and 30 MB.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "logfire-plugin")


def __getattr__(name: str) -> Any:
    # imported when asked for; `serve` is agentservice_runtime.serve.serve, for a name here would hide its module
    if name == "Deps":
        from agentservice_runtime.deps import Deps

        return Deps
    raise AttributeError(name)
