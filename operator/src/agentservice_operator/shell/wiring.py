"""Decides what is watched, what of it is kept, and which AgentService each change concerns. A kind is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agentservice_api import names
from agentservice_operator import observe, pods
from agentservice_operator.caches import BY_POD, BY_REFERENCE, BY_SERVICE, Caches, index_by_reference, index_by_service
from agentservice_operator.kube.agentservices import AgentServiceStore
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.informer import Informer
from agentservice_operator.kube.mounts import MountFailures
from agentservice_operator.kube.resources import (
    AGENTLEDGERS,
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    HORIZONTALPODAUTOSCALERS,
    HTTPROUTES,
    INGRESSES,
    NETWORKPOLICIES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    ROLEBINDINGS,
    ROLES,
    SCALEDOBJECTS,
    SERVICEACCOUNTS,
    SERVICES,
    TRIGGERAUTHENTICATIONS,
    Resource,
)
from agentservice_operator.kube.store import key_of
from agentservice_operator.lost import LostLedgers
from agentservice_operator.manifest import Key, Manifest, agent_of
from agentservice_operator.queue import Priority, WorkQueue

_OURS = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One watched kind: a selection, what is kept of each object, and whom a change of it concerns."""

    resource: Resource
    trim: Callable[[Manifest], Manifest]
    concerns: Callable[[Manifest], Iterable[Key]]
    by_service: bool = False
    label_selector: str | None = None
    field_selector: str | None = None
    metadata_only: bool = False
    by_version: bool = False
    """Every new resourceVersion counts, because what we keep of the object does not show its content."""
    is_optional: bool = False
    """It comes with a CustomResourceDefinition that is not ours."""
    asked_by: Callable[[Manifest], bool] = lambda _: False
    """Of an optional kind: whether a stored specification asks for a child of it."""
    watch_seconds: int = 290
    """When the server is asked to end a watch. A kind without bookmarks needs less than the informer's patience."""


def owners(child: Manifest) -> tuple[Key, ...]:
    """The AgentService that controls a child, and the one that its label names: either may have been edited away."""
    metadata = child["metadata"]
    references: list[dict[str, Any]] = metadata.get("ownerReferences") or []
    controlling = tuple(
        Key(metadata["namespace"], reference["name"])
        for reference in references
        if reference.get("controller")
        and reference["kind"] == names.KIND
        and reference["apiVersion"].split("/")[0] == names.GROUP
    )
    return controlling + labelled(child)


def labelled(child: Manifest) -> tuple[Key, ...]:
    """The AgentService that the labels name."""
    key = agent_of(child)
    return (key,) if key is not None else ()


def asks_for(*path: str, value: str | None = None) -> Callable[[Manifest], bool]:
    """Return a question to a stored specification: is this member set, and to this value where one is named?"""

    def is_asked(spec: Manifest) -> bool:
        node: Any = spec
        for member in path:
            node = cast("Manifest", node or {}).get(member)
        return bool(node) if value is None else node == value

    return is_asked


def nobody(_: Manifest) -> tuple[Key, ...]:
    """Whom it concerns takes more than the object to say: `Wiring` decides."""
    return ()


# All ConfigMaps by one watch: ours, and those that agents refer to.
CONFIG_MAP_WATCH = Watch(resource=CONFIGMAPS, trim=observe.trim_config_map, concerns=owners, by_service=True, metadata_only=True, by_version=True)  # fmt: skip
OWNED: tuple[Watch, ...] = (
    CONFIG_MAP_WATCH,
    Watch(resource=SERVICEACCOUNTS, trim=observe.trim_child, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=ROLES, trim=observe.trim_child, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=ROLEBINDINGS, trim=observe.trim_child, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=SERVICES, trim=observe.trim_child, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=DEPLOYMENTS, trim=observe.trim_child, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=PODDISRUPTIONBUDGETS, trim=observe.trim_declared, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=HORIZONTALPODAUTOSCALERS, trim=observe.trim_autoscaler, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=NETWORKPOLICIES, trim=observe.trim_declared, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=INGRESSES, trim=observe.trim_declared, concerns=owners, by_service=True, label_selector=_OURS),
    Watch(resource=HTTPROUTES, trim=observe.trim_route, concerns=owners, by_service=True, label_selector=_OURS, is_optional=True, asked_by=asks_for("network", "httpRoute")),
    Watch(resource=SCALEDOBJECTS, trim=observe.trim_autoscaler, concerns=owners, by_service=True, label_selector=_OURS, is_optional=True, asked_by=asks_for("autoscaling", "provider", value="KEDA")),
    Watch(resource=TRIGGERAUTHENTICATIONS, trim=observe.trim_declared, concerns=owners, by_service=True, label_selector=_OURS, is_optional=True, asked_by=asks_for("autoscaling", "queuedTasksPerPod")),
)  # fmt: skip
REPLICA_SET_WATCH = Watch(resource=REPLICASETS, trim=observe.trim_replica_set, concerns=labelled, by_service=True, label_selector=_OURS)  # fmt: skip
POD_WATCH = Watch(resource=PODS, trim=observe.trim_pod, concerns=labelled, by_service=True, label_selector=_OURS)  # fmt: skip
# Whatever its labels: they may be edited away, and it must not look deleted then.
LEDGER_WATCH = Watch(resource=AGENTLEDGERS, trim=observe.trim_ledger, concerns=nobody)
USAGE_PACE = 1.0
"""Seconds between two looks at an agent of whose ledger only the accounts change: pods write them all the time."""
# The API server keeps no watch cache of Events and so sends no bookmarks of them: silence means nothing there.
EVENT_WATCH = Watch(resource=EVENTS, trim=observe.trim_event, concerns=nobody, field_selector="reason=FailedMount", watch_seconds=60)  # fmt: skip


def watched_permissions() -> list[tuple[Resource, bool]]:
    """What the process must be allowed to list and watch (True: metadata suffices); RBAC knows no such difference."""
    watches = (*OWNED, REPLICA_SET_WATCH, POD_WATCH, LEDGER_WATCH, EVENT_WATCH)
    return [(watch.resource, watch.metadata_only) for watch in watches]


def is_usage_alone(old: Manifest, new: Manifest) -> bool:
    """Whether nothing of a ledger has changed but its accounts."""

    def rest(ledger: Manifest) -> tuple[Any, ...]:
        metadata = {**ledger["metadata"], "resourceVersion": None}
        return ledger["spec"], ledger["status"].get("seeded"), metadata

    return rest(old) == rest(new)


class Wiring:
    """The informers, their caches, and the way from a change to the queue."""

    def __init__(
        self,
        *,
        client: Client,
        queue: WorkQueue,
        namespaces: Sequence[str],
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._client = client
        self._queue = queue
        self._namespaces = namespaces
        self._clock = clock
        self._random = random
        self._mounts = MountFailures(by_pod=BY_POD)
        self._owned = {
            watch.resource.kind: self._informer(watch, also=self._referenced if watch is CONFIG_MAP_WATCH else None)
            for watch in OWNED
        }
        self._replica_sets = self._informer(REPLICA_SET_WATCH)
        self._pods = self._informer(POD_WATCH, also=self._pod_changed)
        self._ledgers = self._ledger_informer()
        self._lost_ledgers = LostLedgers()
        self.agent_services = AgentServiceStore(
            trim=observe.trim_agent_service,
            indexes={BY_REFERENCE: index_by_reference},
            on_change=self._agent_service_changed,
        )
        self.caches = Caches(
            agent_services=self.agent_services,
            children=self._owned,
            replica_sets=self._replica_sets,
            pods=self._pods,
            failed_mounts=self._mounts,
            references=self._owned[CONFIGMAPS.kind],
            ledgers=self._ledgers,
            lost_ledgers=self._lost_ledgers,
            is_served=self._is_served,
        )
        self._events = self._informer(EVENT_WATCH, also=self._mount_failed)

    def prices_changed(self) -> None:
        """Look again at whoever has a budget."""
        budgeted = self._ledgers.keys()
        for key in budgeted:
            self._queue.add(key)

    @property
    def informers(self) -> tuple[Informer, ...]:
        return (*self._owned.values(), self._replica_sets, self._pods, self._ledgers, self._events)

    def _informer(
        self, watch: Watch, *, also: Callable[[Manifest | None, Manifest | None], Iterable[Key]] | None = None
    ) -> Informer:
        def changed(old: Manifest | None, new: Manifest | None) -> None:
            concerned = {key for content in (old, new) if content is not None for key in watch.concerns(content)}
            if also is not None:
                concerned.update(also(old, new))
            for key in concerned:
                # A child without its AgentService is the garbage collector's; a pod may still hold a part of a budget.
                if key in self.agent_services or key in self._ledgers:
                    self._queue.add(key)

        return Informer(
            client=self._client,
            resource=watch.resource,
            random=self._random,
            clock=self._clock,
            namespaces=self._namespaces,
            label_selector=watch.label_selector,
            field_selector=watch.field_selector,
            metadata_only=watch.metadata_only,
            trim=watch.trim,
            indexes={BY_SERVICE: index_by_service} if watch.by_service else None,
            on_change=changed,
            by_version=watch.by_version,
            watch_timeout=watch.watch_seconds,
            may_be_absent=watch.is_optional,
            on_served=(lambda: self._kind_changed(watch)) if watch.is_optional else None,
        )

    def _is_served(self, kind: str) -> bool:
        return self._owned[kind].is_served

    def _kind_changed(self, watch: Watch) -> None:
        """Look again at whoever asks for a child of a kind that has just appeared or disappeared."""
        for live in self.agent_services:
            if watch.asked_by(live["spec"]):
                self._queue.add(key_of(live))

    def _ledger_informer(self) -> Informer:
        return Informer(
            client=self._client,
            resource=LEDGER_WATCH.resource,
            random=self._random,
            clock=self._clock,
            namespaces=self._namespaces,
            trim=LEDGER_WATCH.trim,
            on_change=self._ledger_changed,
            on_seen=self._ledger_seen,
            may_be_absent=True,
        )

    def _ledger_seen(self, old: Manifest | None, new: Manifest | None) -> None:
        either = new or old
        if either is not None:
            told = new is None and self._ledgers.is_buried(either)
            self._lost_ledgers.saw(key_of(either), old, new, told=told)

    def _ledger_changed(self, old: Manifest | None, new: Manifest | None) -> None:
        either = new or old
        if either is None:
            return
        key = key_of(either)
        if old is None:
            # At a start: its AgentService may not be known yet, or may be gone.
            self._queue.add(key, priority=Priority.RESYNC)
        elif new is None or not is_usage_alone(old, new):
            self._queue.add(key)
        else:
            self._queue.add_after(key, USAGE_PACE)

    def _pod_changed(self, old: Manifest | None, new: Manifest | None) -> Iterable[Key]:
        pod = new or old
        if pod is not None and (new is None or pods.has_started(pod)):
            self._mounts.forget(pod["metadata"]["uid"])
        return ()

    def _referenced(self, old: Manifest | None, new: Manifest | None) -> Iterable[Key]:
        content = new or old
        if content is None:
            return ()
        metadata = content["metadata"]
        users = self.agent_services.by_index(BY_REFERENCE, (metadata["namespace"], metadata["name"]))
        return [key_of(user) for user in users]

    def _mount_failed(self, _: Manifest | None, new: Manifest | None) -> Iterable[Key]:
        if new is None or not self._mounts.latch(new):
            return ()
        regarding = new["regarding"]
        pod = self._pods.get(regarding.get("namespace") or "", regarding.get("name") or "")
        return labelled(pod) if pod is not None and pod["metadata"]["uid"] == regarding.get("uid") else ()

    def _agent_service_changed(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None:
            if old is not None:
                self._queue.add(key_of(old))  # nothing to write, but what is told of it must end
        else:
            # At a start most objects are as we left them: they wait until those that are not have been served.
            status: dict[str, Any] = new.get("status") or {}
            settled = old is None and status.get("observedGeneration") == new["metadata"].get("generation")
            self._queue.add(key_of(new), priority=Priority.RESYNC if settled else Priority.CHANGED)
