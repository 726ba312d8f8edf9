"""Decides the order of one reconcile: read, parse, render, plan, write, judge, report. The deciding is elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agentservice_api import AgentServiceStatus, Reason, names
from agentservice_api.budget.ledger import LEDGER_KIND
from agentservice_operator.admitted import Admitted
from agentservice_operator.bookkeeping import Bookkeeper, Kept
from agentservice_operator.budget import Figures, Standing, budget_announcements, is_usage_alone, standing
from agentservice_operator.caches import Caches, status_of
from agentservice_operator.instructions import Instructions, UnresolvedReferenceError
from agentservice_operator.judge import Desired, Obstacle, judge
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.discovery import ASK_SECONDS, CUSTOM_METRICS, Discovery
from agentservice_operator.kube.errors import AlreadyExists, Forbidden, Invalid, NotFound
from agentservice_operator.kube.resources import AGENTSERVICES, SECRETS
from agentservice_operator.manifest import ChildKey, Key, Manifest, Owner
from agentservice_operator.observe import intent
from agentservice_operator.parse import SpecError, parse
from agentservice_operator.plan import Plan, Verb, controller_uid, plan
from agentservice_operator.prices import PlatformPrices
from agentservice_operator.prune import prunable
from agentservice_operator.render import Platform, Rendered, hold_back, let_go, render
from agentservice_operator.render.secret import render_generated_secret
from agentservice_operator.report import Announcement, contention, transitions, written
from agentservice_operator.scaling import is_held_back, leaves_keda, needs_custom_metrics
from agentservice_operator.secret_changes import SecretChanges
from agentservice_operator.secret_keys import digest_at_work, references
from agentservice_operator.secret_reader import SecretReader
from agentservice_operator.write import Writer, refused

RETRY_REFUSED_SECONDS: Final = 10.0
"""After a refusal that somebody may lift without any object that we watch changing: a quota, a stranger's object."""
RETRY_DYING_SECONDS: Final = 2.0
USAGE_SECONDS: Final = 60.0
"""At most one write of the status in so long for what is spent; a change of the budget's state is written at once."""

_WAITS_FOR_KEDA: Final = Obstacle(
    reason=Reason.WAITING_FOR_DELETION,
    message="the ScaledObject is being deleted, and until KEDA has let go of it the number of pods stays as it is: is KEDA running?",
    stalls=False,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the queue does next with the key: nothing (None), or the same again after so many seconds."""

    requeue_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a reconcile cannot know by itself."""

    now: Callable[[], datetime]
    """UTC."""
    token: Callable[[], str]
    """A new random bearer token of at least 256 bits."""
    announce: Callable[[Manifest, Announcement], None]
    """Say something about an AgentService in an Event."""
    log_revision: Callable[[str], None]
    """Name the revision that the following log lines are about."""
    tell: Callable[[Key, Mapping[str, str]], None]
    """The status of each condition, by type, for the metrics; empty when the object is gone."""
    tell_budget: Callable[[Key, Sequence[Figures]], None]
    """The current windows, for the metrics; empty without a budget."""
    monotonic: Callable[[], float]
    """Seconds."""
    server_time: Callable[[], datetime]
    """UTC by the API server's clock, which decides when a window ends."""
    wrote: Callable[[Key, Collection[str]], float]
    """Count a write of each of these kinds for an AgentService; return the seconds for which it rests afterwards, 0 nearly always."""


class Reconciler:
    """Makes one AgentService true at a time. Raises the client's errors for what trying again may mend."""

    def __init__(
        self,
        *,
        client: Client,
        caches: Caches,
        platform: Platform,
        defaults: Mapping[str, Any],
        effects: Effects,
        secrets: SecretReader,
        prices: PlatformPrices | None = None,
    ) -> None:
        self._client = client
        self._caches = caches
        self._platform = platform
        self._defaults = defaults
        self._effects = effects
        self._secret_changes = SecretChanges(secrets)
        self._prices = prices or PlatformPrices("")
        self._instructions = Instructions(client=client, references=caches.references)
        self._discovery = Discovery(client=client, clock=effects.monotonic)
        self._bookkeeper = Bookkeeper(client=client, caches=caches, now=effects.server_time)
        self._usage_told: dict[Key, datetime] = {}
        self._admitted = Admitted()
        self._writer = Writer(client=client, caches=caches, admitted=self._admitted)

    async def reconcile(self, key: Key) -> Result:
        """Make the children of ``key`` as its specification says, and its status as they are."""
        live = self._caches.agent_services.get(*key)
        if live is None:
            self._effects.tell(key, {})
            return await self._keep_orphan(key)
        if live["metadata"].get("deletionTimestamp"):
            return Result()  # ownerReferences make the API server delete the children
        previous = status_of(live)
        owner = Owner(namespace=key.namespace, name=key.name, uid=live["metadata"]["uid"])
        annotations: Mapping[str, str] = live["metadata"].get("annotations") or {}
        paused = annotations.get(names.ANNOTATION_PAUSED) == "true"
        adopt = annotations.get(names.ANNOTATION_ADOPT) == "true"

        if self._bookkeeper.has_lost(key) and not await self._is_wanted(owner):
            return Result()  # its ledger was deleted after it, and would come back for nobody
        desired, obstacle = await self._desired(live, owner, paused=paused)
        secret_name = previous.auth.secret_name if previous.auth else None
        budget, kept, refused = await self._keep_ledger(key, live, desired, previous, paused=paused)
        obstacle = obstacle or refused
        followed = desired.secret_changes if desired is not None else None
        waits = [kept.wait, followed.again_in if followed is not None else None]
        if (
            desired is not None
            and desired.spec.autoscaling is not None
            and budget is not None
            # last: an observation unpacks all that is known of the agent
            and is_held_back(budget, self._caches.observation(key, owner.uid).autoscaler)
        ):
            desired = replace(desired, rendered=hold_back(desired.rendered))
        if desired is not None and not paused:
            if obstacle is None:
                secret_name, obstacle = await self._ensure_secret(owner, desired, previous)
            if obstacle is None:
                observed = self._caches.observed_children(key)
                kedas = leaves_keda(owner, desired.rendered, observed)
                if kedas:
                    desired = replace(desired, rendered=let_go(desired.rendered, kedas))
                changes = plan(
                    owner=owner,
                    children=[c for c in desired.rendered.children if self._caches.is_served(c["kind"])],
                    observed=observed,
                    adopt=adopt,
                    prunable=prunable(self._caches, owner, desired.rendered, observed),
                )
                if _finds_orphans(changes) and not await self._is_wanted(owner):
                    return Result()
                changes = self._admitted.without_futile(key, changes)
                done, obstacle = await self._writer.write(changes, owner, desired.rendered, adopt=adopt)
                if kedas:
                    obstacle = obstacle or _WAITS_FOR_KEDA
                for announcement in written(done, secret_changed=followed is not None and followed.is_change):
                    logger.info("%s", announcement.note)
                    self._effects.announce(live, announcement)
                self._count(key, live, {change.child.kind for change in done if change.cause is not None})
        if obstacle is not None and not obstacle.rejects:
            dying = obstacle.reason is Reason.WAITING_FOR_DELETION
            waits.append(RETRY_DYING_SECONDS if dying else RETRY_REFUSED_SECONDS)
        observation = self._caches.observation(key, owner.uid)
        if desired is not None and needs_custom_metrics(desired.spec):
            observation = replace(observation, has_custom_metrics=await self._discovery.serves(CUSTOM_METRICS))
            waits.append(None if observation.has_custom_metrics else ASK_SECONDS)
        status = judge(
            generation=live["metadata"]["generation"],
            previous=previous,
            desired=desired,
            obstacle=obstacle,
            observation=observation,
            paused=paused,
            secret_name=secret_name,
            standing=budget,
            now=self._effects.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        waits.append(await self._report(key, live, previous, status, budget))
        return Result(requeue_after=min((wait for wait in waits if wait is not None), default=None))

    async def _is_wanted(self, owner: Owner) -> bool:
        """Ask whether an AgentService is still there and not being deleted: our watch of it may lag behind that of its children."""
        try:
            live = await self._client.get(AGENTSERVICES, owner.namespace, owner.name)
        except NotFound:
            return False
        return live["metadata"]["uid"] == owner.uid and not live["metadata"].get("deletionTimestamp")

    async def _keep_orphan(self, key: Key) -> Result:
        """Keep the ledger of an AgentService that is gone."""
        self._effects.tell_budget(key, ())
        self._usage_told.pop(key, None)
        self._admitted.forget(key)
        self._secret_changes.forget(key)
        kept = await self._bookkeeper.keep(
            key, wanted=None, has_service=False, existed=False, announce=self._effects.announce
        )
        return Result(requeue_after=kept.wait)

    async def _keep_ledger(
        self, key: Key, live: Manifest, desired: Desired | None, previous: AgentServiceStatus, *, paused: bool
    ) -> tuple[Standing | None, Kept, Obstacle | None]:
        """Keep the ledger, and return how the budget stands: None without one."""
        spec = desired.spec if desired is not None else None
        kept, obstacle, terms = Kept(), None, None
        try:
            if spec is not None and spec.budget is not None:
                terms = self._prices.terms(spec, live=self._bookkeeper.terms(key))
            kept = await self._bookkeeper.keep(
                key,
                wanted=None if paused else terms,
                has_service=True,
                existed=previous.budget is not None and (previous.budget.daily or previous.budget.monthly) is not None,
                announce=lambda _, announcement: self._effects.announce(live, announcement),
            )
        except (Forbidden, Invalid, NotFound) as error:
            obstacle = refused(ChildKey(LEDGER_KIND, key.name), error)
        except ValueError as error:
            logger.error("%s %s cannot be read: delete it, and it is restored: %s", LEDGER_KIND, key.name, error)
        if spec is None or spec.budget is None or terms is None:
            self._effects.tell_budget(key, ())
            return None, kept, obstacle
        self._effects.tell_budget(key, kept.windows)
        prices = self._prices.resolved(spec, terms, now=self._effects.now())
        return standing(spec.budget, prices, kept.windows), kept, obstacle

    async def _desired(self, live: Manifest, owner: Owner, *, paused: bool) -> tuple[Desired | None, Obstacle | None]:
        try:
            resource = parse(live, defaults=self._defaults)
            instructions = await self._instructions.of(resource)
        except SpecError as error:
            return None, Obstacle(reason=Reason.INVALID_SPEC, message=str(error), stalls=True, rejects=True)
        except UnresolvedReferenceError as error:
            return None, Obstacle(reason=Reason.REFERENCE_NOT_FOUND, message=str(error), stalls=False, rejects=True)
        rendered = render(resource, platform=self._platform, instructions=instructions)
        followed = None
        if resource.spec.rollout.restart_on_secret_change:
            deployment = self._caches.deployment(owner)
            at_work = digest_at_work(resource.spec.rollout, deployment and deployment["spec"]["template"])
            followed = await self._secret_changes.follow(owner, rendered, at_work=at_work, paused=paused)
            rendered = render(
                resource, platform=self._platform, instructions=instructions, secret_digest=followed.digest
            )
        self._effects.log_revision(rendered.revision)
        references_secrets = bool(references(rendered.children))
        return Desired(
            spec=resource.spec, rendered=rendered, references_secrets=references_secrets, secret_changes=followed
        ), None

    async def _ensure_secret(
        self, owner: Owner, desired: Desired, previous: AgentServiceStatus
    ) -> tuple[str | None, Obstacle | None]:
        """Create the generated Secret unless the status says that it exists and no pod says that it does not."""
        name = desired.rendered.generated_secret
        if name is None:
            return None, None
        recorded = previous.auth is not None and previous.auth.secret_name == name
        if recorded and not self._is_missing(owner, desired.rendered, name):
            return name, None
        try:
            secret = render_generated_secret(owner, name, token=self._effects.token())
            await self._client.create(SECRETS, secret, field_manager=names.FIELD_MANAGER)
        except AlreadyExists:
            pass  # our own, from a try whose answer or status was lost: the UID in its name says so
        except (Forbidden, Invalid) as error:
            return None, refused(ChildKey("Secret", name), error)
        return name, None

    def _is_missing(self, owner: Owner, rendered: Rendered, secret: str) -> bool:
        observation = self._caches.observation(Key(owner.namespace, owner.name), owner.uid)
        return any(
            trouble.reason is Reason.SECRET_NOT_FOUND and f'"{secret}"' in trouble.message
            for trouble in observation.troubles(rendered.revision)
        )

    async def _report(
        self, key: Key, live: Manifest, previous: AgentServiceStatus, status: Manifest, budget: Standing | None
    ) -> float | None:
        """Write the status when it differs from the stored one, and announce what has changed in it.

        Return the seconds until it is worth a write if it is not yet.
        """
        self._effects.tell(key, {condition["type"]: condition["status"] for condition in status["conditions"]})
        old: Manifest = live.get("status") or {}
        if status == old:
            return None
        usage_alone = {**old, "budget": None} == {**status, "budget": None} and is_usage_alone(
            old.get("budget"), status.get("budget")
        )
        wait = self._usage_waits(key) if usage_alone else None
        if wait is not None:
            return wait
        metadata = live["metadata"]
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": metadata["uid"]},
            "status": status,
        }
        with self._caches.agent_services.writing(*key) as answered:
            try:
                answer = await self._client.apply(
                    AGENTSERVICES, body, field_manager=names.FIELD_MANAGER_STATUS, subresource="status"
                )
            except NotFound:
                return None  # deleted meanwhile
            if intent(answer) == intent(live):
                # Otherwise the answer holds a change that nobody has judged. Remembered, it would make the watch's event of
                # that change old news, and the change would be lost.
                answered(answer)
        if usage_alone:
            self._usage_told[key] = self._effects.now()
        self._count(key, live, {names.KIND})
        for announcement in transitions(previous, AgentServiceStatus.model_validate(status)):
            self._effects.announce(live, announcement)
        for announcement in budget_announcements(budget, previous.budget) if budget is not None else ():
            self._effects.announce(live, announcement)
        return None

    def _count(self, key: Key, live: Manifest, kinds: Collection[str]) -> None:
        """Count what was written; say so when it was too much."""
        if self._effects.wrote(key, kinds) > 0:
            contended = contention(kinds)
            logger.warning("%s", contended.note)
            self._effects.announce(live, contended)

    def _usage_waits(self, key: Key) -> float | None:
        """Return the seconds until what is spent may be told again."""
        told = self._usage_told.get(key)
        left = USAGE_SECONDS - (self._effects.now() - told).total_seconds() if told is not None else 0.0
        # More than the whole is left after a clock that was wrong has been put back.
        return left if 0 < left <= USAGE_SECONDS else None


def _finds_orphans(changes: Plan) -> bool:
    """Tell whether a child has lost its owner, as on `kubectl delete --cascade=orphan`: given one again, it would be deleted with it."""
    return any(change.live is not None and not controller_uid(change.live) for change in changes.of(Verb.APPLY))
