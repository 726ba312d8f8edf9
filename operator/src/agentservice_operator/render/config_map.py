"""Decides the ConfigMap of one revision: immutable, and named by its content, so that a rollback is exact."""

from __future__ import annotations

from agentservice_api import RuntimeConfig, names
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata


def render_config_map(owner: Owner, config: RuntimeConfig) -> Manifest:
    """Return the ConfigMap that holds ``config`` as the runtime reads it."""
    content = config.to_json()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, names.config_map_name(owner.name, content)),
        "immutable": True,
        "data": {names.CONFIG_FILE: content.decode()},
    }
