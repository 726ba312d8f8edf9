"""Decides every name that more than one part of the system must agree on.

Group and version, labels, annotations, field managers, and the names derived from an AgentService's own.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

GROUP: Final = "agentservice.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "AgentService"
PLURAL: Final = "agentservices"

MAX_NAME_LENGTH: Final = 52
"""Characters. 63 (a DNS label) less the longest suffix that we add, ``-`` and ten characters of a hash."""
NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A Service must begin with a letter and a DNS label holds no dots, so neither may an AgentService's name."""

LABEL_NAME: Final = f"{GROUP}/name"
"""The selector label, and the only one: user labels never enter a selector."""
LABEL_WORKERS: Final = f"{GROUP}/workers"
"""In place of LABEL_NAME on the pods that only work off a queue: nothing that selects the pods that serve selects these."""
LABEL_REVISION: Final = f"{GROUP}/revision"
LABEL_LEDGER: Final = f"{GROUP}/ledger"
"""On the pods that keep their budget in Redis, with the value Redis: as long as there is one, what that Redis holds is not lost."""
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "agentservice-operator"

ANNOTATION_INTENT: Final = f"{GROUP}/intent-hash"
"""Hash of the manifest as we rendered it; equal hash and intact ownership mean that nothing needs writing."""
ANNOTATION_SECRETS: Final = f"{GROUP}/secrets-digest"
"""On a pod template, with `rollout.restartOnSecretChange`: a keyed hash of the Secret keys that the pod reads."""
ANNOTATION_ADOPT: Final = f"{GROUP}/adopt"
ANNOTATION_PAUSED: Final = f"{GROUP}/paused"
ANNOTATION_FORGIVE: Final = f"{GROUP}/forgive-presumed"
"""On an AgentLedger: a person returns to the pool what is presumed spent of a window: daily, monthly, or its start.

Honoured once: the operator does it, says so in an Event, and moves the request to ANNOTATION_FORGIVEN.
"""
ANNOTATION_FORGIVE_REASON: Final = f"{GROUP}/forgive-reason"
"""On an AgentLedger, beside ANNOTATION_FORGIVE: why. It is told in the Event and kept in ANNOTATION_FORGIVEN."""
MAX_FORGIVE_REASON: Final = 200
"""Characters of it that are kept."""
ANNOTATION_FORGIVEN: Final = f"{GROUP}/forgiven"
"""On an AgentLedger, the operator's: the last such request, and what it gave back."""

FIELD_MANAGER: Final = "agentservice-operator"
FIELD_MANAGER_HANDOFF: Final = "agentservice-operator-handoff"
"""Holds a Deployment's replicas from when we stop declaring them until an autoscaler writes them."""
FIELD_MANAGER_STATUS: Final = "agentservice-operator-status"
FIELD_MANAGER_LEDGER: Final = "agentservice-ledger"
"""Writes the status of an AgentLedger, whoever writes it: one manager, one entry in managedFields."""

SECRETS_MOUNT_PATH: Final = "/var/run/secrets/agentservice.dev"
"""Directory in an agent pod that holds each referenced Secret key as ``NAME/KEY``."""
CONFIG_MOUNT_PATH: Final = "/etc/agentservice"
CONFIG_FILE: Final = "config.json"
GENERATED_TOKEN_KEY: Final = "token"  # noqa: S105  the key's name, not a token


def short_hash(content: bytes, *, length: int = 8) -> str:
    """Return the first ``length`` hexadecimal digits (at most 64) of the SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()[:length]


def config_map_name(name: str, content: bytes) -> str:
    """Return the name of the immutable ConfigMap that holds ``content``: the same content, the same name."""
    return f"{name}-{short_hash(content, length=10)}"


def generated_secret_name(name: str, uid: str) -> str:
    """Return the name of the Secret that holds the generated token of the AgentService with this UID.

    The UID is in the name because the operator may only create Secrets, never read or replace them: an
    AgentService that is deleted and applied again must not meet the Secret of its namesake.
    """
    return f"{name}-token-{uid.replace('-', '')[:8]}"


def digest_key_name(installation: str) -> str:
    """Return the name of the Secret that holds the key of ANNOTATION_SECRETS; ``installation`` names the operator's Lease too."""
    return f"{installation}-digest-key"


def workers_name(name: str) -> str:
    """Return the name of the Deployment whose pods work off an agent's queue, and of what belongs to it alone."""
    return f"{name}-workers"


def ledger_role_name(name: str) -> str:
    """Return the name of the Role and the RoleBinding that let an agent's pods keep their AgentLedger."""
    return f"{name}-ledger"


QUEUE_GROUP: Final = "workers"
"""The consumer group of a queue's stream: what is neither delivered to it nor acknowledged by it waits, or is worked on."""


def queue_prefix(*, namespace: str, name: str, uid: str) -> str:
    """Return what the Redis keys of an agent's queue begin with; the braces put them into one slot of a Redis Cluster.

    The UID (empty outside of a cluster) tells namesakes of clusters apart that share a Redis.
    """
    return f"agentservice:queue:{{{namespace}/{name}/{uid}}}"


def queue_stream(*, namespace: str, name: str, uid: str) -> str:
    """Return the key of the stream of tasks that wait or are worked on: the length of an agent's queue is read there."""
    return f"{queue_prefix(namespace=namespace, name=name, uid=uid)}:tasks"


def is_legal_name(name: str) -> bool:
    """Tell whether ``name`` may name an AgentService."""
    return len(name) <= MAX_NAME_LENGTH and re.fullmatch(NAME_PATTERN, name) is not None
