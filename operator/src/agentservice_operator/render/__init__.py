"""Decides what an AgentService becomes: the manifests of its children, the same bytes for the same input."""

from agentservice_operator.render.children import Platform, Rendered, hold_back, let_go, render
from agentservice_operator.render.network_policy import ApiServerAddresses

__all__ = ["ApiServerAddresses", "Platform", "Rendered", "hold_back", "let_go", "render"]
