"""Decides when two model strings mean the same model: pydantic-ai has several prefixes for one provider's interfaces."""

from __future__ import annotations

from typing import Final

_SAME: Final = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "azure-responses": "azure",
}
"""Prefix to the name that the provider calls itself (`Model.system`)."""


def identity(model: str) -> str:
    """Return the model string under its provider's own name; ``test`` as it is.

    >>> identity("openai-chat:gpt-4o-mini")
    'openai:gpt-4o-mini'
    """
    prefix, colon, name = model.partition(":")
    return f"{_SAME.get(prefix, prefix)}{colon}{name}"
