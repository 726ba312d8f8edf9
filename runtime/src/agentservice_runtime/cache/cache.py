"""Decides what the cache's configuration becomes in the process: a store, its flights, and a capability for each run."""

from __future__ import annotations

import random
import secrets
from typing import Final

from agentservice_api import RuntimeConfig
from agentservice_api.spec import CacheScope
from agentservice_runtime.cache import purges
from agentservice_runtime.cache.capability import RunCache
from agentservice_runtime.cache.flight import Alone, Flights, Found, Lease
from agentservice_runtime.cache.key import Scope
from agentservice_runtime.cache.outcome import CacheMetrics, Note, Outcome
from agentservice_runtime.cache.purges import Purges
from agentservice_runtime.cache.store import ANSWER_SECONDS, Store
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.patience import answer_seconds
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.secrets import SecretFiles

ANSWER_VARIABLE: Final = "AGENTSERVICE_CACHE_ANSWER_SECONDS"
"""How long Redis may take to answer before a run does without, in place of the default."""
JITTER: Final = 0.1
"""Share of its time that an answer may live less, so that those made together do not end together."""
_WAIT_SHARE: Final = 0.5
"""Of a run's time, to wait for an equal one: enough must be left to ask the model after all."""


class Cache:
    """The cache of this process."""

    def __init__(self, config: RuntimeConfig, *, store: Store, metrics: CacheMetrics, revision: str) -> None:
        settings = config.cache
        if settings is None:
            raise ValueError("the configuration has no cache")
        self.metrics = metrics
        self.cacheable_tools = frozenset(settings.cacheable_tools)
        self.tags = frozenset(settings.tags)
        self._store = store
        self._flights = Flights(store)
        self._revision = revision
        self._is_shared = settings.scope is CacheScope.SHARED
        self._ttl_seconds = settings.ttl_seconds
        self._tag_purges = frozenset(map(purges.of_tag, settings.tags))

    def for_run(self, record: RunRecord, *, seconds: float) -> RunCache | None:
        """Return the capability of a run that may take so many seconds; None for one that goes without the cache."""
        note = record.cache = record.cache or Note()
        caller = "" if self._is_shared else record.end_user
        if caller is None or record.wants_fresh:
            note.decide(Outcome.BYPASS)
            self.metrics.counted(Outcome.BYPASS)
            return None
        scope = Scope(revision=self._revision, caller=caller)
        return RunCache(cache=self, scope=scope, note=note, account=record.account, run_seconds=seconds)

    async def board(self, key: str, *, message: str, run_seconds: float) -> Found | Lease | Alone:
        """Return the answer of ``key``, or who makes it. Raises Unavailable."""

        def counts(known: Purges, of: str) -> bool:
            return known.counts(of, message=message, tags=self._tag_purges)

        return await self._flights.board(
            key, counts=counts, run_seconds=run_seconds, wait_seconds=_WAIT_SHARE * run_seconds
        )

    async def keep(self, lease: Lease, body: bytes) -> None:
        """Keep an answer. Never raises."""
        share = 1 - JITTER * random.random()  # noqa: S311  not a secret
        await lease.keep(body, seconds=share * self._ttl_seconds)

    async def purge(self, *, tag: str | None = None, prefix: str | None = None) -> None:
        """Let answers of before no longer count: those with ``tag``, those to messages that begin with ``prefix``, or all.

        Raises Unavailable.
        """
        field = purges.ALL
        if tag is not None:
            field = purges.of_tag(tag)
        elif prefix:
            field = purges.of_prefix(prefix)
        await self._store.purge(field, token=secrets.token_hex(12))

    async def close(self) -> None:
        """Give leases back and close the connections. Never raises."""
        await self._flights.settle()
        await self._store.close()


def build_cache(
    config: RuntimeConfig, *, secrets: SecretFiles, metrics: Metrics, revision: str, is_traced: bool = False
) -> Cache:
    """Return the cache; nothing is connected yet. Raises ConfigurationRejected."""
    if config.cache is None:
        raise ValueError("the configuration has no cache")
    selector = config.cache.redis_url.secret_key_ref

    def url() -> str | None:
        return secrets.read(selector)

    owner = "/".join((config.namespace, config.name, config.cache.uid))
    store = Store(
        url,
        owner=owner,
        ttl_seconds=config.cache.ttl_seconds,
        answer_seconds=answer_seconds(ANSWER_VARIABLE, default=ANSWER_SECONDS),
        is_traced=is_traced,
    )
    series = CacheMetrics(metrics.registry, agent_name=config.name)
    return Cache(config, store=store, metrics=series, revision=revision)
