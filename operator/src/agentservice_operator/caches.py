"""Decides what a reconcile reads: the informers' stores, and the indexes by which it finds what belongs together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pydantic import ValidationError

from agentservice_api import AgentServiceStatus, names
from agentservice_operator.lost import LostLedgers
from agentservice_operator.manifest import ChildKey, Key, Manifest, Owner, agent_of
from agentservice_operator.plan import controller_uid
from agentservice_operator.rollout import Observation

BY_SERVICE = "service"
"""Index of children, ReplicaSets and pods: the AgentService that their label names, as a `Key`."""
BY_POD = "pod"
"""Index of Events: the UID of the pod that they regard."""
BY_REFERENCE = "reference"
"""Index of AgentServices: (namespace, name) of each ConfigMap that they refer to."""


class Store(Protocol):
    """The part of an informer that a reconcile needs."""

    def get(self, namespace: str, name: str) -> Manifest | None:
        """Return the object, None when there is none."""
        ...

    def by_index(self, index: str, value: Hashable) -> list[Manifest]:
        """Return the objects that ``index`` files under ``value``."""
        ...


class WrittenStore(Store, Protocol):
    """The store of a kind that we write."""

    def writing(self, namespace: str, name: str) -> AbstractContextManager[Callable[[Manifest], None]]:
        """Be silent about this object until our write of it is answered; the answer goes into what this yields."""
        ...


def index_by_service(live: Manifest) -> Iterable[Hashable]:
    """Index function for `BY_SERVICE`."""
    key = agent_of(live)
    return (Key(sys.intern(key.namespace), sys.intern(key.name)),) if key is not None else ()


def index_by_reference(live: Manifest) -> Iterator[Hashable]:
    """Index function for `BY_REFERENCE`. Takes any stored object, a malformed one too."""
    node: Any = live
    for member in ("spec", "agent", "instructionsFrom", "configMapKeyRef", "name"):
        node = cast("Manifest", node).get(member) if isinstance(node, dict) else None
    if isinstance(node, str):
        yield live["metadata"]["namespace"], node


@dataclass(frozen=True, kw_only=True)
class Caches:
    """The stores of everything that is watched."""

    agent_services: WrittenStore
    children: Mapping[str, WrittenStore]
    """By kind; the objects that carry our labels."""
    replica_sets: Store
    pods: Store
    failed_mounts: Store
    references: Store
    """Metadata of every ConfigMap."""
    ledgers: WrittenStore
    lost_ledgers: LostLedgers
    is_served: Callable[[str], bool] = lambda _: True
    """Whether the API server knows a kind of children: some come with a CustomResourceDefinition that is not ours."""

    def observed_children(self, key: Key) -> dict[ChildKey, Manifest]:
        """Return the live objects that carry the label of ``key``."""
        return {
            ChildKey(kind, live["metadata"]["name"]): live
            for kind, store in self.children.items()
            for live in store.by_index(BY_SERVICE, key)
        }

    def deployment(self, owner: Owner) -> Manifest | None:
        """Return the Deployment of the pods that serve, None unless ``owner`` controls it."""
        live = self.children["Deployment"].get(owner.namespace, owner.name)
        return live if live is not None and controller_uid(live) == owner.uid else None

    def observation(self, key: Key, uid: str) -> Observation:
        """Return the Deployments that the AgentService with ``uid`` controls, and what became of their pods."""

        def controlled(kind: str, name: str) -> Manifest | None:
            live = self.children[kind].get(key.namespace, name)
            return live if live is not None and controller_uid(live) == uid else None

        serving, working = list[Manifest](), list[Manifest]()
        for pod in self.pods.by_index(BY_SERVICE, key):
            (working if names.LABEL_WORKERS in pod["metadata"]["labels"] else serving).append(pod)
        workers = names.workers_name(key.name)
        return Observation(
            deployment=controlled("Deployment", key.name),
            autoscaler=controlled("ScaledObject", key.name) or controlled("HorizontalPodAutoscaler", key.name),
            workers=Observation(
                deployment=controlled("Deployment", workers),
                autoscaler=controlled("ScaledObject", workers),
                pods=tuple(working),
                failed_mounts=self._failed_mounts(working),
            ),
            route=controlled("HTTPRoute", key.name),
            has_keda=self.is_served("ScaledObject"),
            has_gateway_api=self.is_served("HTTPRoute"),
            pods=tuple(serving),
            failed_mounts=self._failed_mounts(serving),
        )

    def _failed_mounts(self, pods: Iterable[Manifest]) -> dict[str, str]:
        return {
            event["regarding"]["uid"]: event["note"]
            for pod in pods
            for event in self.failed_mounts.by_index(BY_POD, pod["metadata"]["uid"])
        }

    def mounted_config_maps(self, key: Key) -> set[str]:
        """Return the ConfigMaps that any ReplicaSet or pod of ``key`` mounts, terminating pods included."""
        holders = (*self.replica_sets.by_index(BY_SERVICE, key), *self.pods.by_index(BY_SERVICE, key))
        return {name for holder in holders for name in holder["configMaps"]}


def status_of(live: Manifest) -> AgentServiceStatus:
    """Return the stored status; one that this version cannot read counts as none."""
    try:
        return AgentServiceStatus.model_validate(live.get("status") or {})
    except ValidationError:
        return AgentServiceStatus()
