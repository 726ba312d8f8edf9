"""The API server slow, refusing, losing answers, cutting and expiring watches: agents end right, nothing is lost, and no storm is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.services.api_proxy import ApiProxy, Asked, Fate, Weather, fair

from .drills import WRITES_OF_A_LIFE, Life, gone, right, written
from .fake_kubelet import kubelet
from .operator_process import Audit, OperatorProcess, Workbench, eventually


@pytest.fixture(scope="module")
def operator(
    proxy: ApiProxy, proxied: Path, make_operator: Callable[..., OperatorProcess]
) -> Iterator[OperatorProcess]:
    """An operator that knows the API server by the proxy alone; at its end it must stop in order, having met no fault of its own."""
    process = make_operator(kubeconfig=proxied).start()
    yield process
    proxy.weather = fair
    assert process.stop() == 0
    assert "please report it" not in process.log


@pytest.fixture(autouse=True)
def clears_up(proxy: ApiProxy) -> Iterator[None]:
    proxy.weather = fair
    yield
    proxy.weather = fair


def of_agents(asked: Asked) -> bool:
    """Not the Lease: whoever cannot renew it ends, which other tests show; not a watch, which has drills of its own."""
    return asked.resource != "leases" and not asked.watch


def slow(asked: Asked) -> Fate | None:
    return Fate(delay=2.0) if asked.resource != "leases" else None


def hit(asked: Asked) -> bool:
    """Every second of the first ten requests of each kind: an agent with ten children meets all of it, and the drill ends."""
    return of_agents(asked) and asked.number % 2 == 0 and asked.number < 10


def too_many(asked: Asked) -> Fate | None:
    return Fate(refuse=429, retry_after=1) if hit(asked) else None


def broken(asked: Asked) -> Fate | None:
    return Fate(refuse=500) if hit(asked) else None


def conflicts(asked: Asked) -> Fate | None:
    return Fate(refuse=409) if hit(asked) and asked.method in ("PATCH", "PUT") else None


def loses_answers(asked: Asked) -> Fate | None:
    return Fate(loses_answer=True) if hit(asked) and asked.writes else None


@dataclass(frozen=True, kw_only=True)
class Spell:
    """Some bad weather, and how much of it the operator's requests must have met for the drill to have been one."""

    weather: Weather
    status: int | None = None


SPELLS = {
    "slow": Spell(weather=slow),
    "answering 429": Spell(weather=too_many, status=429),
    "answering 500": Spell(weather=broken, status=500),
    "answering 409": Spell(weather=conflicts, status=409),
    "losing answers": Spell(weather=loses_answers),
}


@pytest.mark.parametrize("name", SPELLS)
def test_agents_end_right_under_an_api_server_that_is(
    operator: OperatorProcess, proxy: ApiProxy, at: Workbench, audit: Audit, name: str
):
    spell, life = SPELLS[name], Life(at)
    with kubelet(at):
        life.begin(audit)
        audit.forget()
        proxy.forget()
        proxy.weather = spell.weather
        life.go_on()
        right(at, "changed", "robbed", "edited", "new")  # while it lasts
        proxy.weather = fair
        life.ends_well(audit)
    if spell.status is not None:
        assert sum(n for (_, _, status), n in proxy.refused.items() if status == spell.status) >= 5
    assert len(written(audit, at)) <= WRITES_OF_A_LIFE
    assert sum(proxy.refused.values()) <= 2 * WRITES_OF_A_LIFE, "refusals were answered with haste"
    assert operator.leads


def test_watches_that_are_cut_again_and_again_lose_no_change(
    operator: OperatorProcess, proxy: ApiProxy, at: Workbench, audit: Audit
):
    life = Life(at)
    with kubelet(at):
        life.begin(audit)
        audit.forget()
        proxy.cut_watches()
        life.go_on()
        for port in range(9000, 9005):
            assert proxy.cut_watches()
            at.patch("AgentService", "kept", {"spec": {"network": {"service": {"port": port}}}})
            eventually("the change was seen", lambda port=port: at.get("Service", "kept")["spec"]["ports"][0]["port"] == port)  # fmt: skip
        life.ends_well(audit)
    assert len(written(audit, at)) <= WRITES_OF_A_LIFE + 15


def test_what_vanishes_while_every_resource_version_expires_is_missed(
    operator: OperatorProcess, proxy: ApiProxy, at: Workbench, audit: Audit
):
    """No watch tells of the deletions: all are cut, and when they come back their resourceVersions are too old."""
    life = Life(at)

    def nothing_is_heard(asked: Asked) -> Fate | None:
        return Fate(delay=1.0, refuse=503) if asked.watch else None

    def expired(asked: Asked) -> Fate | None:
        return Fate(gone=True) if asked.watch and asked.number == 0 else None

    with kubelet(at):
        life.begin(audit)
        at.agent("forgotten")
        right(at, "forgotten")
        at.quiet(audit)
        audit.forget()
        proxy.weather = nothing_is_heard
        assert proxy.cut_watches()
        at.delete("AgentService", "forgotten")
        gone(at, "forgotten")
        life.go_on()
        proxy.forget()
        proxy.weather = expired
        life.ends_well(audit)
        told = f'namespace="{at.namespace}",name="forgotten"'
        eventually("the operator has forgotten it too", lambda: told not in operator.metrics())
    assert sum(n for (_, _, status), n in proxy.refused.items() if status == 410) >= 10, "each kind's watch expired"
    assert len(written(audit, at)) <= WRITES_OF_A_LIFE
    assert at.find("Deployment", "forgotten") is None
