"""Decides the Secret that holds the generated token. It is created once and never read back."""

from __future__ import annotations

from agentservice_api import names
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata


def render_generated_secret(owner: Owner, name: str, *, token: str) -> Manifest:
    """Return the Secret.

    It is not immutable: a kubelet does not look at an immutable Secret again while a pod of its node mounts it, also
    when it was deleted, so after a token was made anew the pods of two nodes would know different ones (seen on 1.36).
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(owner, name),
        "type": "Opaque",
        "stringData": {names.GENERATED_TOKEN_KEY: token},
    }
