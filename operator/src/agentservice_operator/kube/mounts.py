"""Decides which pods could not mount a volume, from the kubelet's FailedMount events.

The kubelet says it once and the Event expires after an hour, while the pod waits on: so it is latched until the pod's
container has run or the pod is gone. Missing Secrets show nowhere else as long as no volume mounts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from agentservice_operator.kube.store import key_of
from agentservice_operator.manifest import Manifest

_REMEMBERED = 4096
"""Pods at most. Events of pods that are not ours come in too, since no selector tells them apart."""


class MountFailures:
    """What FailedMount said last of each pod, as a store of Events that are found by the uid of their pod.

    `by_pod` is the name of that one index.
    """

    def __init__(self, *, by_pod: str) -> None:
        self._by_pod = by_pod
        self._latched: OrderedDict[str, Manifest] = OrderedDict()

    def get(self, namespace: str, name: str) -> Manifest | None:
        """Return a latched Event by its own name, None when there is none."""
        for event in self._latched.values():
            if key_of(event) == (namespace, name):
                return event
        return None

    def by_index(self, index: str, value: Hashable) -> list[Manifest]:
        """Return the latched Event of the pod with the uid ``value``, if any. Raises KeyError for another index."""
        if index != self._by_pod:
            raise KeyError(index)
        event = self._latched.get(str(value))
        return [event] if event is not None else []

    def latch(self, event: Manifest) -> bool:
        """Take an Event with `regarding` and `note`. Returns whether it says something new."""
        regarding: dict[str, str] = event.get("regarding") or {}
        uid, note = regarding.get("uid") or "", event.get("note") or ""
        known = self._latched.get(uid)
        if not uid or not note or (known is not None and known["note"] == note):
            return False
        self._latched[uid] = event
        self._latched.move_to_end(uid)
        while len(self._latched) > _REMEMBERED:
            self._latched.popitem(last=False)
        return True

    def forget(self, pod_uid: str) -> None:
        """The pod's volumes are mounted, or it is gone."""
        self._latched.pop(pod_uid, None)
