"""Decides in which order a plan is written, what of an answer is remembered, and what a refusal means for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from agentservice_api import Reason, names
from agentservice_operator.admitted import Admitted
from agentservice_operator.caches import Caches
from agentservice_operator.judge import Obstacle
from agentservice_operator.kube.apply import execute
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import ApiError, Forbidden, Invalid, NotFound
from agentservice_operator.manifest import ChildKey, Key, Owner
from agentservice_operator.ownership import is_untouched
from agentservice_operator.plan import Change, Plan, Verb, decide
from agentservice_operator.render import Rendered
from agentservice_operator.render.autoscaler import AUTOSCALERS

ADMISSION_SECONDS: Final = (0.2, 0.5, 1.0)
"""Between tries of a ScaledObject that is refused. KEDA's admission judges by a watch of its own, which lags behind what we have just
written: a Deployment is not there to it yet, or a HorizontalPodAutoscaler still is."""

_ACCESS: Final = ("Role", "RoleBinding")

T = TypeVar("T")


class Writer:
    """Writes what a plan says."""

    def __init__(self, *, client: Client, caches: Caches, admitted: Admitted) -> None:
        self._client = client
        self._caches = caches
        self._admitted = admitted

    async def write(
        self, changes: Plan, owner: Owner, rendered: Rendered, *, adopt: bool
    ) -> tuple[list[Change], Obstacle | None]:
        """Write what pods need before the pods; return what was done and the first obstacle met."""
        done: list[Change] = []
        obstacles = [_in_the_way(change) for change in changes.of(Verb.REFUSE, Verb.WAIT)]
        for stage in _stages(changes):
            if obstacles and any(change.child.kind == "Deployment" for chain in stage for change in chain):
                break
            # All of them end before one's error does: a write that is left alone would meet those of the next try.
            chains = await asyncio.gather(
                *(self._execute_chain(chain, owner, rendered, adopt=adopt) for chain in stage), return_exceptions=True
            )
            for chain in chains:
                if isinstance(chain, BaseException):
                    raise chain
                for outcome in chain:
                    if isinstance(outcome, Obstacle):
                        obstacles.append(outcome)
                    else:
                        done.append(outcome)
        return done, min(obstacles, key=lambda o: (not o.stalls, o.message), default=None)

    async def _execute_chain(
        self, chain: tuple[Change, ...], owner: Owner, rendered: Rendered, *, adopt: bool
    ) -> list[Change | Obstacle]:
        outcomes: list[Change | Obstacle] = []
        for change in chain:
            outcomes.append(await self._execute(change, owner, rendered, adopt=adopt))
            if isinstance(outcomes[-1], Obstacle):
                break
        return outcomes

    async def _execute(self, change: Change, owner: Owner, rendered: Rendered, *, adopt: bool) -> Change | Obstacle:
        store = self._caches.children[change.child.kind]
        with store.writing(owner.namespace, change.child.name) as answered:
            first = rendered.first_replicas.get(change.child.name, 1)
            try:
                done, answer = await _until_admitted(
                    lambda: execute(self._client, change, owner=owner, adopt=adopt, first_replicas=first), change
                )
            except (Forbidden, Invalid, NotFound) as error:
                return refused(change.child, error)
            if answer is not None:
                again = None
                if not is_untouched(answer, names.FIELD_MANAGER):
                    again = decide(owner, done.manifest, answer, adopt=adopt)
                if again is None or again.verb is Verb.KEEP:
                    answered(answer)
                else:
                    # Somebody wrote between our look and our write: the watch must tell of it, so nothing is remembered. Or
                    # admission did, within our write.
                    self._admitted.note(Key(owner.namespace, owner.name), again, answer)
        return _in_the_way(done) if done.verb in (Verb.REFUSE, Verb.WAIT) else done


def _stages(changes: Plan) -> tuple[tuple[tuple[Change, ...], ...], ...]:
    """Return the stages one after the other; in each, chains side by side; in a chain, changes one after the other."""
    writes = changes.writes
    pods = tuple((change,) for change in writes if change.child.kind == "Deployment")
    deletes = [change for change in writes if change.verb is Verb.DELETE]
    kept = [change for change in writes if change.child.kind != "Deployment" and change.verb is not Verb.DELETE]
    # An autoscaler goes before the Deployment is written: it must not write a number that is ours again. It comes after that:
    # KEDA's admission refuses one whose Deployment is not there, or says nothing of the CPU that is asked for.
    scalers_gone = tuple((change,) for change in deletes if change.child.kind in AUTOSCALERS)
    scalers = tuple((change,) for change in kept if change.child.kind in AUTOSCALERS)
    gone = tuple((change,) for change in deletes if change.child.kind not in AUTOSCALERS)
    rest = [change for change in kept if change.child.kind not in AUTOSCALERS]
    # A Role before what binds it: the API server looks it up.
    access = tuple(sorted((c for c in rest if c.child.kind in _ACCESS), key=lambda c: _ACCESS.index(c.child.kind)))
    others = tuple((change,) for change in rest if change.child.kind not in _ACCESS)
    return scalers_gone, ((access, *others) if access else others), pods, scalers, gone


async def _until_admitted(write: Callable[[], Awaitable[T]], change: Change) -> T:
    """Write, and try a ScaledObject again that KEDA's admission refuses. Raises what the last try has met."""
    for pause in ADMISSION_SECONDS if change.child.kind == "ScaledObject" else ():
        try:
            return await write()
        except (Forbidden, NotFound):
            await asyncio.sleep(pause)
    return await write()


def _in_the_way(change: Change) -> Obstacle:
    if change.verb is Verb.WAIT:
        return Obstacle(reason=Reason.WAITING_FOR_DELETION, message=change.message, stalls=False)
    return Obstacle(reason=Reason.CONFLICT, message=change.message, stalls=True)


def refused(child: ChildKey, error: ApiError) -> Obstacle:
    """Return what stands in the way when the API server does not take ``child``."""
    if isinstance(error, Invalid):
        return Obstacle(
            reason=Reason.INVALID_SPEC,
            message=f"the API server refuses {child}: {error.message}",
            stalls=True,
            rejects=True,
        )
    return Obstacle(
        reason=Reason.FORBIDDEN,
        message=f"{child} cannot be written: {error.message}: lift the quota or policy, or grant the operator the permission",
        stalls=False,
    )
