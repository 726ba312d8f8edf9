"""The operator keeps a budget's ledger on a real API server: it outlives what people do to it, and its spend with it."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, ModelSpend, WindowLimit
from agentservice_api.budget.books import Posting, post, roll
from devcluster.api import RefusedError

from .fake_kubelet import kubelet
from .operator_process import Audit, OperatorProcess, Workbench, eventually

DAY = {"daily": {"tokens": 1000}}


def ledger(at: Workbench) -> dict[str, Any]:
    return at.get("AgentLedger", "agent")


def seeded(at: Workbench) -> dict[str, Any]:
    """The ledger, once it has accounts."""

    def has() -> dict[str, Any]:
        live = ledger(at)
        assert live["status"]["seeded"]
        return live

    return eventually("the ledger is seeded", has)


def day(live: dict[str, Any]) -> dict[str, Any]:
    return max((w for w in live["status"]["windows"] if w["name"] == "daily"), key=lambda w: w["start"])


def posting(at: Workbench, holder: str, **amounts: Any) -> dict[str, Any]:
    """Do what a pod does: read, count in both windows, write over exactly what was read; again when somebody was faster."""
    while True:
        live = seeded(at)
        status = LedgerStatus.model_validate(live["status"])
        current = [window for window in (status.current("daily"), status.current("monthly")) if window is not None]
        postings = [Posting(key=window.key, **amounts) for window in current]
        after, _ = post(status, LedgerSpec.model_validate(live["spec"]), holder, postings)
        body = {
            "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]},
            "status": after.model_dump(mode="json", by_alias=True),
        }
        try:
            return at.patch("AgentLedger", "agent", body, subresource="status")
        except RefusedError as refused:
            if refused.status not in (404, 409):
                raise


def take(at: Workbench, tokens: int, *, holder: str = "redis-1f0c9a2b/test") -> None:
    posting(at, holder, need=Amount(tokens, 0), want=Amount(tokens, 0))


def spend(at: Workbench, tokens: int, *, holder: str = "redis-1f0c9a2b/test") -> None:
    posting(at, holder, spent=(ModelSpend(name="openai-chat:x", tokens=tokens),))


def budget(at: Workbench) -> dict[str, Any]:
    return at.get("AgentService", "agent")["status"].get("budget") or {}


def events(at: Workbench, *reasons: str) -> list[str]:
    return sorted(event["reason"] for event in at.list("Event") if event["reason"] in reasons)


def today_spends(at: Workbench, tokens: int, *, seconds: float = 20) -> None:
    eventually(f"status.budget says {tokens} tokens", lambda: budget(at)["daily"]["tokens"] == tokens, seconds=seconds)


@pytest.fixture
def agent(operator: OperatorProcess, at: Workbench) -> Workbench:
    """An agent with a budget of 1000 tokens a day, seeded."""
    at.agent(budget=DAY)
    at.serves()
    seeded(at)
    return at


def test_a_budget_becomes_a_ledger_of_its_own_a_role_and_its_binding(agent: Workbench):
    live = ledger(agent)
    assert "ownerReferences" not in live["metadata"]
    assert live["metadata"]["labels"]["agentservice.dev/name"] == "agent"
    assert live["spec"]["windows"] == [{"name": "daily", "tokens": 1000}]
    assert [window["name"] for window in live["status"]["windows"]] == ["daily", "monthly"]
    assert agent.find("Role", "agent-ledger")
    assert agent.find("RoleBinding", "agent-ledger")
    agent.settles("BudgetAvailable", "True", "WithinBudget")
    assert budget(agent)["state"] == "OK"


def test_at_rest_and_after_a_restart_nothing_is_written(operator: OperatorProcess, agent: Workbench, audit: Audit):
    spend(agent, 300)
    today_spends(agent, 300)
    agent.quiet(audit, seconds=2)
    audit.forget()
    assert operator.stop() == 0
    operator.start()
    time.sleep(3)
    assert audit.writes(namespace=agent.namespace) == []


def test_a_limit_changed_in_the_agent_is_soon_in_the_ledger_and_restarts_no_pod(agent: Workbench):
    revision = agent.get("AgentService", "agent")["status"]["revision"]
    for tokens in (5000, 10):
        agent.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": tokens}}}})
        eventually("the limit is in force", lambda t=tokens: ledger(agent)["spec"]["windows"][0]["tokens"] == t)
    agent.serves()
    assert agent.get("AgentService", "agent")["status"]["revision"] == revision


def test_a_unit_that_is_limited_no_more_leaves_the_ledger(agent: Workbench):
    agent.patch("AgentService", "agent", {"spec": {"budget": {"daily": None, "monthly": {"costUSD": "2.50"}}}})
    eventually(
        "only the month is limited",
        lambda: ledger(agent)["spec"]["windows"] == [{"name": "monthly", "nanoUSD": 2_500_000_000}],
    )


def test_what_is_spent_is_told_in_the_status_and_in_one_event_a_percentage(agent: Workbench):
    spend(agent, 850)
    agent.settles("BudgetAvailable", "True", "BudgetWarning")
    today_spends(agent, 850)
    assert agent.kubectl("get", "ags", "agent", "-o", "wide").stdout.split("\n")[1].split().count("85") == 1
    spend(agent, 150)
    message = agent.settles("BudgetAvailable", "False", "BudgetExhausted")
    assert day(ledger(agent))["end"] in message
    ready = next(c for c in agent.get("AgentService", "agent")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "Progressing", "a budget never decides Ready"
    reasons = ("BudgetThreshold", "BudgetLimitReached", "BudgetExhausted")
    eventually(
        "each percentage is announced",
        lambda: events(agent, *reasons) == ["BudgetLimitReached", "BudgetThreshold", "BudgetThreshold"],
    )
    agent.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": 5000}}}})
    agent.settles("BudgetAvailable", "True", "WithinBudget")
    eventually("it is told", lambda: events(agent, "BudgetReset") == ["BudgetReset"])


def test_usage_alone_is_written_once_a_minute_at_most(agent: Workbench, audit: Audit):
    spend(agent, 10)
    today_spends(agent, 10)
    agent.quiet(audit, seconds=1)
    audit.forget()
    for _ in range(20):
        spend(agent, 10)
        time.sleep(0.15)
    told = [w for w in audit.writes(namespace=agent.namespace) if w.resource == "agentservices"]
    assert len(told) <= 1, "the first 10 tokens may have been told together with something else, which is not counted"
    spend(agent, 700)
    agent.settles("BudgetAvailable", "True", "BudgetWarning")


def test_a_ledger_that_is_deleted_by_hand_comes_back_with_its_accounts(agent: Workbench):
    take(agent, 200)
    spend(agent, 100)
    before = ledger(agent)
    agent.delete("AgentLedger", "agent")
    eventually("another ledger is there", lambda: ledger(agent)["metadata"]["uid"] != before["metadata"]["uid"])
    after = seeded(agent)
    assert after["status"] == before["status"]
    assert after["spec"] == before["spec"]
    eventually("it is told", lambda: events(agent, "LedgerRestored") == ["LedgerRestored"])


def test_a_ledger_that_is_deleted_while_no_operator_runs_is_presumed_spent_until_a_person_forgives(
    operator: OperatorProcess, agent: Workbench
):
    spend(agent, 100)
    today_spends(agent, 100)
    assert operator.stop() == 0
    agent.delete("AgentLedger", "agent")
    operator.start()
    after = seeded(agent)
    assert (day(after)["presumedTokens"], day(after)["authorizedTokens"]) == (1000, 1000)
    agent.settles("BudgetAvailable", "False", "BudgetExhausted")
    # the month has no limit, so nothing of it can be presumed
    eventually("it is told", lambda: events(agent, "LedgerPresumed") == ["LedgerPresumed"])
    agent.kubectl("annotate", "agentledger", "agent", "agentservice.dev/forgive-presumed=daily")
    agent.settles("BudgetAvailable", "True", "WithinBudget")
    forgiven = ledger(agent)
    assert day(forgiven)["presumedTokens"] == 0
    eventually("it is told", lambda: events(agent, "PresumedForgiven") == ["PresumedForgiven"])

    def recorded() -> bool:
        annotations = ledger(agent)["metadata"]["annotations"]
        return "agentservice.dev/forgive-presumed" not in annotations and annotations[
            "agentservice.dev/forgiven"
        ].startswith("daily at 20")

    eventually("the request is recorded as done", recorded)


def test_a_budget_that_is_taken_out_and_put_back_has_spent_what_it_had_spent(agent: Workbench, audit: Audit):
    with kubelet(agent):
        agent.settles("Ready", "True")
        spend(agent, 400)
        agent.patch("AgentService", "agent", {"spec": {"budget": None}})
        agent.settles("BudgetAvailable", "absent")
        eventually("pods may keep no ledger any more", lambda: agent.find("RoleBinding", "agent-ledger") is None)
        assert agent.find("Role", "agent-ledger") is None
        assert budget(agent) == {}
        assert day(ledger(agent))["settledTokens"] == 400
        agent.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": 500}}}})
        today_spends(agent, 400)
        assert budget(agent)["state"] == "Warning"


def test_a_paused_agents_limits_wait(agent: Workbench, audit: Audit):
    agent.annotate("agent", paused="true")
    agent.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": 5}}}})
    agent.serves()
    agent.quiet(audit)
    assert ledger(agent)["spec"]["windows"][0]["tokens"] == 1000
    agent.annotate("agent", paused=None)
    eventually("the limit is in force", lambda: ledger(agent)["spec"]["windows"][0]["tokens"] == 5)


def test_a_changed_time_zone_opens_no_window(agent: Workbench):
    spend(agent, 400)
    before = ledger(agent)["status"]["windows"]
    agent.patch("AgentService", "agent", {"spec": {"budget": {"timeZone": "Pacific/Auckland"}}})
    eventually("the zone is in force", lambda: ledger(agent)["spec"]["timeZone"] == "Pacific/Auckland")
    assert ledger(agent)["status"]["windows"] == before
    today_spends(agent, 400)


def test_an_agent_that_is_deleted_and_applied_again_has_spent_what_it_had_spent(agent: Workbench):
    spend(agent, 400)
    agent.delete("AgentService", "agent")
    eventually("the agent is gone", lambda: agent.find("AgentService", "agent") is None)
    assert day(ledger(agent))["settledTokens"] == 400
    agent.agent(budget=DAY)
    today_spends(agent, 400)
    assert events(agent, "LedgerRestored", "LedgerPresumed") == []


def test_an_agent_and_its_ledger_deleted_in_whatever_order_reset_nothing(agent: Workbench):
    spend(agent, 400)
    agent.delete("AgentService", "agent")
    eventually("the agent is gone", lambda: agent.find("AgentService", "agent") is None)
    agent.delete("AgentLedger", "agent")
    time.sleep(1)
    assert agent.find("AgentLedger", "agent") is None, "a ledger that nobody uses may be deleted"
    agent.agent(budget=DAY)
    assert day(seeded(agent))["settledTokens"] == 400


def test_edits_of_the_ledger_by_hand_are_refused_or_leave_the_spend(agent: Workbench):
    take(agent, 200)
    spend(agent, 100)
    before = ledger(agent)
    for status in (None, {"seeded": False}, {"windows": []}, {"windows": None}):
        with pytest.raises(RefusedError):
            agent.patch("AgentLedger", "agent", {"status": status}, subresource="status")
    less = copy.deepcopy(before["status"]["windows"])
    less[0]["settledTokens"] = 1
    with pytest.raises(RefusedError):
        agent.patch("AgentLedger", "agent", {"status": {"windows": less}}, subresource="status")
    agent.patch(
        "AgentLedger", "agent", {"spec": {"windows": [{"name": "daily", "tokens": 10**9}], "enforcement": "Observe"}}
    )
    eventually("the terms are the agent's again", lambda: ledger(agent)["spec"] == before["spec"])
    agent.patch("AgentLedger", "agent", {"metadata": {"labels": None}})
    eventually(
        "the labels are there again", lambda: ledger(agent)["metadata"]["labels"] == before["metadata"]["labels"]
    )
    assert ledger(agent)["status"] == before["status"]


def test_what_a_pod_held_is_presumed_spent_when_the_pod_is_gone(agent: Workbench):
    with kubelet(agent):
        agent.settles("Ready", "True")
        (pod,) = agent.list("Pod", of="agent")
        take(agent, 300, holder=f"{pod['metadata']['uid']}/a1b2")
        spend(agent, 100, holder=f"{pod['metadata']['uid']}/a1b2")
        time.sleep(2)
        assert day(ledger(agent))["presumedTokens"] == 0
        agent.delete("Pod", pod["metadata"]["name"])

        def presumed() -> bool:
            live = ledger(agent)
            return day(live)["presumedTokens"] == 200 and live["status"]["holders"] == []

        eventually("its slice is presumed spent", presumed, seconds=60)


def test_another_ledger_type_in_mid_window_keeps_the_spend_and_what_redis_held_is_presumed_spent_in_the_end(
    agent: Workbench,
):
    def choose(kind: str) -> None:
        where = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
        agent.patch("AgentService", "agent", {"spec": {"redis": where, "budget": {"ledger": {"type": kind}}}})

    def in_redis() -> list[bool]:
        return ["agentservice.dev/ledger" in pod["metadata"]["labels"] for pod in agent.list("Pod", of="agent")]

    with kubelet(agent):
        agent.settles("Ready", "True")
        (pod,) = agent.list("Pod", of="agent")
        slices = f"{pod['metadata']['uid']}/a1b2"
        take(agent, 200, holder=slices)
        spend(agent, 100, holder=slices)
        choose("Redis")
        eventually("only a pod that speaks with Redis is left", lambda: in_redis() == [True], seconds=60)
        agent.settles("SpecAccepted", "True")
        take(agent, 300, holder="redis-1f0c9a2b/life")
        spend(agent, 250, holder="redis-1f0c9a2b/life")

        def accounts() -> tuple[int, int, set[str]]:
            live = ledger(agent)
            holders = {hand["holder"] for hand in live["status"]["holders"]}
            return day(live)["settledTokens"], day(live)["presumedTokens"], holders

        eventually(
            "the pod with slices is gone, and Redis is not",
            lambda: accounts() == (350, 100, {"redis-1f0c9a2b/life"}),
            seconds=60,
        )
        choose("Kubernetes")
        eventually("no pod speaks with Redis any more", lambda: in_redis() == [False], seconds=60)
        eventually("what Redis held is presumed spent", lambda: accounts() == (350, 150, set()), seconds=60)
        today_spends(agent, 500)


def test_an_unknown_time_zone_is_refused_and_the_terms_of_before_stay(agent: Workbench):
    # The API server's database and ours may differ; where they agree the former refuses it at once.
    with pytest.raises(RefusedError):
        agent.patch("AgentService", "agent", {"spec": {"budget": {"timeZone": "Europe/Atlantis"}}})
    assert ledger(agent)["spec"]["timeZone"] == "UTC"


def test_the_metrics_show_the_windows_and_drop_them_with_the_budget(operator: OperatorProcess, agent: Workbench):
    take(agent, 300)
    spend(agent, 100)
    where = {"namespace": agent.namespace, "name": "agent", "window": "daily", "unit": "tokens"}

    def shown() -> bool:
        values = {
            name: operator.metric(f"agentservice_budget_{name}", **where) for name in ("limit", "used", "reserved")
        }
        return values == {"limit": 1000, "used": 100, "reserved": 200}

    eventually("the metrics follow", shown)
    agent.delete("AgentService", "agent")
    eventually(
        "the series end",
        lambda: f'namespace="{agent.namespace}"' not in operator.metrics(),
    )


def test_an_agent_without_a_budget_has_no_ledger_and_no_role(operator: OperatorProcess, at: Workbench):
    at.agent()
    at.serves()
    assert at.list("AgentLedger") == []
    assert at.list("Role") == []
    assert budget(at) == {}
    at.settles("BudgetAvailable", "absent")


def test_roles_come_back_as_declared(agent: Workbench):
    agent.patch("Role", "agent-ledger", {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
    eventually("the Role is healed", lambda: len(agent.get("Role", "agent-ledger")["rules"]) == 2)
    agent.delete("RoleBinding", "agent-ledger")
    eventually("the RoleBinding is there again", lambda: agent.find("RoleBinding", "agent-ledger"))


def test_the_pods_account_may_keep_its_own_ledger_and_nothing_else(agent: Workbench):
    account = f"system:serviceaccount:{agent.namespace}:agent"

    def may(verb: str, resource: str, *options: str) -> bool:
        done = agent.kubectl("auth", "can-i", verb, resource, *options, "--as", account, check=False)
        return done.stdout.strip() == "yes"

    assert may("get", "agentledgers.agentservice.dev/agent")
    assert may("watch", "agentledgers.agentservice.dev/agent")
    assert may("patch", "agentledgers.agentservice.dev/agent", "--subresource=status")
    for verb in ("update", "patch", "delete", "create", "deletecollection"):
        assert not may(verb, "agentledgers.agentservice.dev/agent"), verb
    for verb in ("update", "get", "delete"):
        assert not may(verb, "agentledgers.agentservice.dev/agent", "--subresource=status"), verb
    for verb in ("get", "list", "watch", "patch", "delete"):
        assert not may(verb, "agentledgers.agentservice.dev/other"), verb
        assert not may(verb, "agentledgers.agentservice.dev"), verb
        for other in (
            "secrets",
            "configmaps",
            "pods",
            "agentservices.agentservice.dev",
            "roles.rbac.authorization.k8s.io",
        ):
            assert not may(verb, other), (verb, other)
    # What kubectl lists as allowed, beside what every account may ask about itself and the API.
    listed = agent.kubectl("auth", "can-i", "--list", "--as", account).stdout.splitlines()[1:]
    own = [line.split() for line in listed if "agentservice.dev" in line]
    assert sorted(own) == [
        ["agentledgers.agentservice.dev", "[]", "[agent]", "[get", "list", "watch]"],
        ["agentledgers.agentservice.dev/status", "[]", "[agent]", "[patch]"],
    ]
    others = [line for line in listed if "agentservice.dev" not in line and "authentication" not in line]
    assert all("authorization.k8s.io" in line or line.startswith(" ") for line in others), others


def test_a_limit_is_in_force_within_two_seconds_while_pods_write_all_the_time(agent: Workbench):
    """Who writes the status by compare-and-swap makes every write of the specification a race, and the other way round."""
    stopping = threading.Event()
    spent: list[int] = []

    def pod(number: int) -> None:
        while not stopping.is_set():
            spend(agent, 1, holder=f"redis-1f0c9a2b/{number}")
            spent.append(1)

    with ThreadPoolExecutor(4) as pods:
        for number in range(4):
            pods.submit(pod, number)
        try:
            for tokens in (5000, 2000, 8000):
                agent.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": tokens}}}})
                eventually(
                    "the limit is in force",
                    lambda t=tokens: ledger(agent)["spec"]["windows"][0]["tokens"] == t,
                )
            agent.delete("AgentLedger", "agent")
            eventually("it is restored", lambda: seeded(agent))
            until_then = len(spent)
            eventually("the pods write on", lambda: len(spent) > max(10, until_then + 4))
        finally:
            stopping.set()
    live = ledger(agent)
    assert day(live)["settledTokens"] + day(live)["overrunTokens"] == len(spent), "nothing that was written is lost"


def test_windows_keep_to_the_servers_clock(agent: Workbench):
    window = day(ledger(agent))
    start, end = (datetime.fromisoformat(window[name]) for name in ("start", "end"))
    assert start <= datetime.now(UTC) < end


def written_at(at: Workbench, *moments: datetime, tokens: int, name: str = "agent") -> None:
    """Make the ledger that an agent of these moments would have left: what it spent was spent at the first of them."""
    spec = LedgerSpec(windows=(WindowLimit(name="daily", tokens=1000),))
    labels = {"app.kubernetes.io/managed-by": "agentservice-operator", "agentservice.dev/name": name}
    status = roll(LedgerStatus(seeded=True), spec, now=moments[0])
    bill = [Posting(key=window.key, spent=(ModelSpend(name="m", tokens=tokens),)) for window in status.windows]
    status, _ = post(status, spec, "0c1d/word", bill)
    for moment in moments[1:]:
        status = roll(status, spec, now=moment)
    at.create(
        "AgentLedger",
        {
            "apiVersion": "agentservice.dev/v1alpha1",
            "kind": "AgentLedger",
            "metadata": {"name": name, "labels": labels},
            "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        },
    )
    body = {"status": status.model_dump(mode="json", by_alias=True)}
    at.patch("AgentLedger", name, body, subresource="status")


def test_a_window_that_is_over_is_closed_into_the_books(operator: OperatorProcess, at: Workbench):
    now = datetime.now(UTC)
    written_at(at, now - timedelta(days=2), now, tokens=700)
    at.agent(budget=DAY)

    def closed() -> bool:
        live = ledger(at)
        books = [book for book in live["status"]["closed"] if book["name"] == "daily"]
        return [book["tokens"] for book in books] == [700] and day(live)["settledTokens"] == 0

    eventually("the day before yesterday is closed", closed)
    at.settles("BudgetAvailable", "True", "WithinBudget")


def test_the_books_of_an_agent_that_is_gone_go_62_days_after_its_last_window(operator: OperatorProcess, at: Workbench):
    now = datetime.now(UTC)
    written_at(at, now - timedelta(days=60), tokens=700)
    time.sleep(2)
    assert at.find("AgentLedger", "agent"), "its month ended less than 62 days ago"
    written_at(at, now - timedelta(days=100), tokens=700, name="older")
    eventually("nobody needs it any more", lambda: at.find("AgentLedger", "older") is None)
    assert at.find("AgentLedger", "agent")
