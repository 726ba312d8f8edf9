"""Decides what the reconcile loop is given of the outside world."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from agentservice_api import names
from agentservice_api.spec import ImagePullPolicy
from agentservice_operator.caches import Caches
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.events import EventType, Recorder
from agentservice_operator.manifest import Key, Manifest
from agentservice_operator.pace import Paces
from agentservice_operator.prices import PlatformPrices
from agentservice_operator.queue import WorkQueue
from agentservice_operator.reconcile import Effects, Reconciler
from agentservice_operator.render import ApiServerAddresses, Platform
from agentservice_operator.report import Announcement
from agentservice_operator.secret_reader import SecretReader
from agentservice_operator.shell.logging import set_revision
from agentservice_operator.shell.metrics import Metrics
from agentservice_operator.shell.settings import Settings


def build_reconciler(
    *,
    settings: Settings,
    client: Client,
    caches: Caches,
    recorder: Recorder,
    metrics: Metrics,
    prices: PlatformPrices,
    queue: WorkQueue,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Reconciler:
    """The reconciler with the real clock, randomness, events and metrics. `clock` is monotonic seconds, `random` [0, 1)."""
    paces = Paces(clock=clock)

    def wrote(key: Key, kinds: Collection[str]) -> float:
        rest = paces.wrote(key, kinds)
        if rest > 0:
            queue.rest(key, rest)
        return rest

    def announce(live: Manifest, announcement: Announcement) -> None:
        recorder.record(
            live,
            event_type=EventType.WARNING if announcement.warning else EventType.NORMAL,
            reason=announcement.reason,
            action=announcement.action,
            note=announcement.note,
        )

    return Reconciler(
        client=client,
        caches=caches,
        platform=Platform(
            runtime_image=settings.runtime_image,
            runtime_image_pull_policy=ImagePullPolicy(settings.runtime_image_pull_policy.value),
            prometheus=settings.prometheus_address,
            api_server=ApiServerAddresses(cidrs=settings.api_server_cidrs, ports=settings.api_server_ports),
        ),
        defaults=settings.agent_defaults,
        prices=prices,
        secrets=SecretReader(
            client=client,
            namespace=settings.pod_namespace,
            key_name=names.digest_key_name(settings.lease_name),
            interval=settings.secrets_seconds,
            clock=clock,
            random=random,
            new_key=secrets.token_bytes,
        ),
        effects=Effects(
            now=lambda: datetime.now(UTC),
            token=lambda: secrets.token_urlsafe(32),
            announce=announce,
            log_revision=set_revision,
            tell=metrics.set_conditions,
            tell_budget=metrics.budgets.tell,
            monotonic=clock,
            server_time=lambda: client.server_time() or datetime.now(UTC),
            wrote=wrote,
        ),
    )
