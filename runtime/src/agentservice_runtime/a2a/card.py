"""Decides what other agents read about this one before they ask: the card at `/.well-known/agent-card.json`.

Nothing in it is secret: no instructions, no model, no address but the one by which the card itself was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentservice_api import RuntimeConfig
from agentservice_api.spec import AuthType
from agentservice_runtime.a2a.request import DATA, TEXT

VERSION: Final = "1.0"
RPC_PATH: Final = "/v1/a2a"
CARD_PATH: Final = "/.well-known/agent-card.json"
_SCHEMES: Final = frozenset({"http", "https"})


def agent_card(config: RuntimeConfig, *, revision: str, is_typed: bool, is_text: bool, address: str) -> dict[str, Any]:
    """Return the card of the agent at ``address``. ``is_typed`` is about its input, ``is_text`` about its output."""
    about = config.agent.description or f"The agent {config.name}."
    takes, gives = [DATA if is_typed else TEXT], [TEXT if is_text else DATA]
    card: dict[str, Any] = {
        "name": config.name,
        "description": about,
        "version": revision or "local",
        "documentationUrl": f"{address}/docs",
        "supportedInterfaces": [
            {"url": f"{address}{RPC_PATH}", "protocolBinding": "JSONRPC", "protocolVersion": VERSION}
        ],
        "capabilities": {"streaming": True, "pushNotifications": False, "extendedAgentCard": False},
        "defaultInputModes": takes,
        "defaultOutputModes": gives,
        "skills": [
            {"id": config.name, "name": config.name, "description": about, "tags": ["agent"],
             "inputModes": takes, "outputModes": gives}
        ],
    }  # fmt: skip
    if config.auth.type is AuthType.BEARER_TOKEN:
        card["securitySchemes"] = {"token": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}}
        card["securityRequirements"] = [{"schemes": {"token": {"list": []}}}]
    return card


def address_of(scheme: str, headers: Mapping[str, str]) -> str:
    """Return the address by which a request came, as the proxy before it says: whoever reads the card came by it too."""
    told = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    host = headers.get("x-forwarded-host", "").partition(",")[0].strip() or headers.get("host", "")
    return f"{told if told in _SCHEMES else scheme}://{host}"
