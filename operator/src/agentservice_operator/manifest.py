"""Decides nothing: the words for plain Kubernetes objects that the pure modules share, and the bytes that are hashed of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import orjson

from agentservice_api import names

Manifest: TypeAlias = dict[str, Any]
"""A Kubernetes object as plain data. Never changed in place once it has been rendered or read."""


class Key(NamedTuple):
    """Which AgentService: the unit of work of the queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ChildKey(NamedTuple):
    """Which child object within the namespace of its AgentService."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The AgentService as its children's ownerReferences name it."""

    namespace: str
    name: str
    uid: str


def canonical(manifest: Manifest) -> bytes:
    """Return JSON without spaces, with sorted members and nothing but ASCII: the same bytes in every version of ours.

    A hash of them names a revision, so they must never change. orjson writes them ten times as fast as the standard
    library, and the same bytes where it needs no escape that it knows otherwise.
    """
    text = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
    if text.isascii() and b"\x7f" not in text:
        return text
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def agent_of(live: Manifest) -> Key | None:
    """Return the AgentService that the labels of a child or a pod name."""
    labels: dict[str, str] = live["metadata"].get("labels") or {}
    name = labels.get(names.LABEL_NAME) or labels.get(names.LABEL_WORKERS)
    return Key(live["metadata"]["namespace"], name) if name else None


def child_key(manifest: Manifest) -> ChildKey:
    """Return the key of a rendered or observed object."""
    return ChildKey(manifest["kind"], manifest["metadata"]["name"])
