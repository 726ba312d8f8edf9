"""Decides what we believe to be in the cluster: a store of one kind, kept true by list, watch and re-list with pruning.

The idea is client-go's reflector. What this one promises: an object that vanished while the watch was down is told as
a deletion at the next re-list; no failure of the API server ends it (410, 429, 5xx, a reset, silence, missing
permissions); it is `synced` once every namespace has been listed, and keeps its last belief while it is cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from agentservice_operator.kube.client import PAGE_SIZE, Client
from agentservice_operator.kube.errors import ApiError, Forbidden, Gone, KubeError, NotFound
from agentservice_operator.kube.index import ValuesOf
from agentservice_operator.kube.resources import Resource
from agentservice_operator.kube.retry import backoff
from agentservice_operator.kube.store import ObjectStore, OnChange, key_of, whole
from agentservice_operator.kube.stream import WatchEvent
from agentservice_operator.manifest import Key, Manifest

HEALTHY_SECONDS = 5.0
"""A watch that lived this long ends a row of failures."""

logger = logging.getLogger(__name__)


class Informer(ObjectStore):
    """The store of one kind, cluster-wide or in some namespaces, narrowed by selectors.

    `trim`, `indexes`, `on_change`, `on_seen` and `by_version` are `ObjectStore`'s; `on_change` must not block. It is called synchronously.
    Delays are seconds: `backoff_base` .. `backoff_ceiling` with jitter, for ever; `watch_timeout` is when the server is
    asked to end a watch, `inactivity_timeout` the silence after which it counts as dead. With `may_be_absent` a kind whose
    CustomResourceDefinition is not installed counts as a kind without objects, until it is; `on_served` makes that nothing to
    complain about, and is called when the kind appears or disappears later.
    """

    def __init__(
        self,
        *,
        client: Client,
        resource: Resource,
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float],
        namespaces: Sequence[str] = (),
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        trim: Callable[[Manifest], Manifest] = whole,
        indexes: Mapping[str, ValuesOf] | None = None,
        on_change: OnChange | None = None,
        on_seen: OnChange | None = None,
        by_version: bool = False,
        page_size: int = PAGE_SIZE,
        backoff_base: float = 0.5,
        backoff_ceiling: float = 30.0,
        watch_timeout: int = 290,
        inactivity_timeout: float = 90.0,
        may_be_absent: bool = False,
        on_served: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(trim=trim, indexes=indexes, on_change=on_change, on_seen=on_seen, by_version=by_version)
        self.resource = resource
        self.synced = asyncio.Event()
        self._client = client
        self._random = random
        self._sleep = sleep
        self._clock = clock
        self._scopes: tuple[str, ...] = tuple(namespaces) or ("",)
        self._unlisted = set(self._scopes)
        self._passed = dict.fromkeys(self._scopes, "")
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._page_size = page_size
        self._backoff = (backoff_base, backoff_ceiling)
        self._watch_timeout = watch_timeout
        self._inactivity_timeout = inactivity_timeout
        self._may_be_absent = may_be_absent
        self._on_served = on_served
        self._served: bool | None = None

    @property
    def is_served(self) -> bool:
        """Whether the API server knows the kind, as far as we have seen."""
        return self._served is not False

    async def run(self) -> None:
        """Keep the store true until cancelled."""
        async with asyncio.TaskGroup() as group:
            for scope in self._scopes:
                group.create_task(self._follow(scope), name=f"informer of {self.resource.label} in {scope or '*'}")

    async def _follow(self, scope: str) -> None:
        failures = 0
        version = ""
        while True:
            began = self._clock()
            try:
                if not version:
                    version = self._passed[scope] = await self._relist(scope)
                began = self._clock()
                async with aclosing(self._watch(scope, version)) as events:
                    async for event in events:
                        version = self._passed[scope] = event.object["metadata"].get("resourceVersion") or version
                        if event.type != "BOOKMARK":
                            self._absorb(event)
                        failures = 0
                error = None
            except KubeError as caught:
                error = caught
            if self._clock() - began >= HEALTHY_SECONDS:
                failures = 0  # not reset by a list alone: with list granted and watch refused we would list without end
                if error is None:
                    continue  # the server ended the watch in its time
            failures += 1
            if isinstance(error, Gone):
                logger.debug("%s%s: the watch fell behind, listing again", self.resource.label, _where(scope))
                version = ""
            elif error is not None:
                if isinstance(error, ApiError):
                    version = ""  # a stream that broke may go on where it was; a refusal leaves that in doubt
                absent = self._may_be_absent and isinstance(error, NotFound) and error.kind_is_absent
                if not absent or self._on_served is None:
                    self._complain(scope, error, failures)
                if absent:
                    self._absent(scope)
            await self._pause(failures)

    async def _pause(self, failures: int) -> None:
        base, ceiling = self._backoff
        await self._sleep(backoff(failures - 1, base=base, ceiling=ceiling, random=self._random))

    def _watch(self, scope: str, version: str):  # noqa: ANN202 - the client's own generator type
        return self._client.watch(
            self.resource,
            resource_version=version,
            namespace=scope or None,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
            timeout_seconds=int(self._watch_timeout * (0.9 + self._random() / 10)),
            inactivity_timeout=self._inactivity_timeout,
        )

    async def _relist(self, scope: str) -> str:
        seen: set[Key] = set()
        version = ""
        pages = self._client.pages(
            self.resource,
            namespace=scope or None,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
            limit=self._page_size,
        )
        async with aclosing(pages):
            async for page in pages:
                version = page.resource_version
                for content in page.items:
                    seen.add(key_of(content))
                    self.put(content)
        self.prune(seen=seen, version=version, namespace=scope)
        self._listed(scope)
        self._is_now_served(True)
        return version

    def _absent(self, scope: str) -> None:
        if (
            self._on_served is not None
        ):  # gone with their CustomResourceDefinition; of ours a person may have deleted it by mistake
            for key in self.keys():
                if scope in ("", key.namespace):
                    self._drop(key)
        self._listed(scope)  # where the kind is not served there are no objects of it
        self._is_now_served(False)

    def _is_now_served(self, served: bool) -> None:
        before, self._served = self._served, served
        if before is not None and before is not served and self._on_served is not None:
            logger.info(
                "the API server %s",
                f"serves {self.resource.label} now" if served else f"no longer serves {self.resource.label}",
            )
            self._on_served()

    def _listed(self, scope: str) -> None:
        self._unlisted.discard(scope)
        if not self._unlisted:
            self.synced.set()

    def _absorb(self, event: WatchEvent) -> None:
        if event.type == "DELETED":
            self.bury(event.object)
        elif event.type in ("ADDED", "MODIFIED"):
            self.put(event.object)

    def _tell(self, old: Manifest | None, new: Manifest | None) -> None:
        try:
            super()._tell(old, new)
        except Exception:
            # A fault in a listener must not blind us to the rest of the cluster; the periodic resync makes up for it.
            logger.exception("%s: the listener failed", self.resource.label)

    def _complain(self, scope: str, error: KubeError, failures: int) -> None:
        if failures & (failures - 1):  # the 1st, 2nd, 4th, 8th … failure in a row: loud at first, never a flood
            return
        what = f"{self.resource.label}{_where(scope)}"
        if isinstance(error, Forbidden):
            logger.error(
                'not allowed to list or watch %s: grant the verbs "list" and "watch" on %s to the operator\'s '
                "ServiceAccount; retrying (%s)",
                what,
                self.resource.label,
                error.message,
            )
        elif isinstance(error, NotFound):
            logger.error("the API server does not serve %s: install its CustomResourceDefinition; retrying", what)
        else:
            logger.warning("cannot follow %s, retrying: %s", what, error)


def _where(scope: str) -> str:
    return f" in namespace {scope}" if scope else ""
