"""Decides which difference is no use to write again: the one that the API server's admission made in our own last write.

A policy that adds a variable to every container, or a webhook that does, changes what we apply as part of our own request.
Applied again it would be changed again, for ever. So what the answer to our apply was is as declared as the object gets; any
other change of it is taken back as usual. Kept in memory alone: a restarted operator finds out by one write.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from agentservice_api import names
from agentservice_operator.manifest import ChildKey, Key, Manifest, canonical
from agentservice_operator.plan import Cause, Change, Plan, Verb
from agentservice_operator.takeover import others_hold

_NOT_DECLARED = frozenset({"apiVersion", "kind", "metadata", "status", "data", "binaryData"})
_COUNTED_BY_OTHERS = "deployment.kubernetes.io/revision"


class Admitted:
    """What admission made of children, for those of which it made something."""

    def __init__(self) -> None:
        self._answers: dict[Key, dict[ChildKey, str]] = {}

    def note(self, key: Key, again: Change, answer: Manifest) -> None:
        """Take note of an ``answer`` to an apply which, judged ``again``, would call for the same apply.

        Not where it holds what is somebody else's: that came in between, and is to be removed. What admission adds is nobody's.
        """
        if (
            again.verb is Verb.APPLY
            and again.cause is Cause.DRIFTED
            and not others_hold(answer, again.manifest, names.FIELD_MANAGER)
        ):
            self._answers.setdefault(key, {})[again.child] = _content(answer)

    def without_futile(self, key: Key, changes: Plan) -> Plan:
        """Return ``changes`` without those that would only repeat what admission has changed already."""
        known = self._answers.get(key)
        if not known:
            return changes
        return Plan(
            changes=tuple(
                replace(change, verb=Verb.KEEP, cause=None) if _is_futile(known, change) else change
                for change in changes.changes
            )
        )

    def forget(self, key: Key) -> None:
        """Forget an AgentService that is gone."""
        self._answers.pop(key, None)


def _is_futile(known: dict[ChildKey, str], change: Change) -> bool:
    return (
        change.verb is Verb.APPLY
        and change.cause is Cause.DRIFTED
        and change.live is not None
        and change.child in known
        and known[change.child] == _content(change.live)
    )


def _content(live: Manifest) -> str:
    metadata: Manifest = live["metadata"]
    annotations = dict(cast("dict[str, str]", metadata.get("annotations") or {}))
    annotations.pop(_COUNTED_BY_OTHERS, None)
    declared: Manifest = {
        "uid": metadata.get("uid"),
        "labels": metadata.get("labels"),
        "annotations": annotations,
        "ownerReferences": metadata.get("ownerReferences"),
        "content": {key: value for key, value in live.items() if key not in _NOT_DECLARED},
    }
    return names.short_hash(canonical(declared), length=16)
