"""A budget over four pods, seen from outside: what the model server billed, what callers were told, what `kubectl` shows.

The tests of this file follow each other: the same agent spends on, and nothing but its window's end gives anything back.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.bench.budgets.load import noon_zone

from .agents import Agent, specification
from .kube import Kube, Manifest
from .load_generator import Caller, Outcome, Spent
from .waiting import wait

FIT = 200
PODS = 4
QUESTION = {
    "input": "Customer 42 (critical): my parcel to the islands has not come, and I have waited for three weeks."
}
OUTPUT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["response", "suggested_actions", "escalated"],
    "properties": {
        # as long as such answers are
        "response": {"type": "string", "minLength": 2000},
        "suggested_actions": {"type": "array", "items": {"type": "string"}},
        "escalated": {"type": "boolean"},
    },
}
WITHIN_SECONDS = 5.0
"""Until a changed limit holds in every pod: 2 are promised and printed, and a busy machine may lose some."""


def support(model: str, model_url: str, **parts: Any) -> Manifest:
    agent = {"outputSchema": OUTPUT, "limits": {"runTimeoutSeconds": 30, "requestsPerRun": 3}}
    spec = specification("You are a professional customer support agent. Be polite and concrete.", agent=agent, **parts)
    return spec | {
        "model": {"name": f"openai-chat:{model}", "baseURL": model_url, "settings": {"maxTokens": 800}},
    }


@dataclass(kw_only=True)
class Budgeted:
    """The agent, its limit, and what it has cost so far."""

    agent: Agent
    caller: Caller
    model: str
    model_url: str
    worth: int
    """Tokens that one request is billed."""
    limit: int = 0
    zone: str = ""

    @property
    def kube(self) -> Kube:
        return self.agent.kube

    @property
    def billed(self) -> int:
        """Tokens, by the model server's own count."""
        return billed(self.kube, self.agent.namespace, self.model)["total_tokens"]

    @property
    def asked(self) -> int:
        """Requests that reached the model server."""
        return billed(self.kube, self.agent.namespace, self.model)["requests"]

    def manifest(self, *, with_budget: bool = True) -> Manifest:
        budget = {"budget": {"timeZone": self.zone, "daily": {"tokens": self.limit}}}
        return {
            "apiVersion": "agentservice.dev/v1alpha1",
            "kind": "AgentService",
            "metadata": {"name": self.agent.name, "namespace": self.agent.namespace},
            "spec": support(self.model, self.model_url, replicas=PODS, **(budget if with_budget else {})),
        }

    def apply(self, *, with_budget: bool = True) -> float:
        """`kubectl apply`, as a person does; return the moment at which it was done."""
        self.kube.kubectl("apply", "-f", "-", stdin=json.dumps(self.manifest(with_budget=with_budget)))
        return time.time()

    def spend(self, *, requests: int, clients: int = 16) -> Spent:
        return self.caller.spend(self.agent.url, QUESTION, requests=requests, clients=clients)

    def is_refused(self) -> None:
        """Many requests, so that each pod is asked: none is served and nothing is billed."""
        before = self.billed, self.asked
        spent = self.spend(requests=24, clients=4)
        assert spent.counts == {"refused": 24, "http_requests": 24}, spent.counts
        assert (self.billed, self.asked) == before

    def goes_on(self, *, requests: int) -> None:
        """Raise the limit by so many requests' worth: they are served, and no more."""
        self.limit += requests * self.worth
        self.apply()
        self.agent.wait_ready()
        before = self.billed
        wait("it serves again", lambda: self.spend(requests=1).counts["served"], seconds=20, why=self.explain)
        spent = self.spend(requests=requests + 20)
        assert spent.counts["refused"] > 0, spent.counts
        assert before < self.billed <= self.limit, self.explain()

    def ledger(self) -> Manifest:
        found = self.kube.get("AgentLedger", self.agent.namespace, self.agent.name)
        assert found is not None
        return found

    def explain(self) -> str:
        ledger = json.dumps(self.ledger().get("status"), indent=1)
        return f"limit {self.limit}, billed {self.billed}; {ledger}\n{self.agent.explain()}"


def billed(kube: Kube, team: str, model: str) -> Counter[str]:
    (pod,) = kube.list("Pod", team, selector="app.kubernetes.io/name=model-server")
    state = json.loads(kube.through_pod(team, pod["metadata"]["name"], 8000, "/state"))
    return Counter(state["billed"].get(model, {}))


@pytest.fixture(scope="module")
def unlimited(kube: Kube, team: str, model_url: str) -> Agent:
    """The same agent without a budget."""
    agent = Agent(kube=kube, namespace=team, name="unlimited")
    return agent.apply(support(f"unlimited-{uuid.uuid4().hex[:6]}", model_url)).wait_ready()


@pytest.fixture(scope="module")
def worth(unlimited: Agent, kube: Kube, team: str, caller: Caller) -> int:
    """What a request is billed: the stand-in bills the same each time."""
    model = unlimited.live()["spec"]["model"]["name"].removeprefix("openai-chat:")
    spent = caller.spend(unlimited.url, QUESTION, requests=4, clients=1)
    assert spent.counts["served"] == 4, spent
    total = billed(kube, team, model)["total_tokens"]
    assert total % 4 == 0
    return total // 4


@pytest.fixture(scope="module")
def budgeted(kube: Kube, team: str, caller: Caller, worth: int, model_url: str) -> Iterator[Budgeted]:
    """An agent of four pods that may cost two hundred requests' worth today."""
    found = Budgeted(
        agent=Agent(kube=kube, namespace=team, name="budgeted"),
        caller=caller,
        model=f"budgeted-{uuid.uuid4().hex[:6]}",
        model_url=model_url,
        worth=worth,
        limit=FIT * worth,
        zone=noon_zone(),
    )
    found.apply()
    found.agent.wait_ready()
    yield found
    kube.delete("AgentService", team, found.agent.name)


def test_what_fits_is_served_and_the_rest_is_refused_once_each(budgeted: Budgeted):
    spent = budgeted.spend(requests=FIT + 60)
    print(f"of {FIT} that fit: {spent.counts}, billed {budgeted.billed} of {budgeted.limit}")
    assert set(spent.counts) == {"served", "refused", "http_requests"}, spent.counts
    assert budgeted.billed <= budgeted.limit
    assert spent.counts["served"] >= 0.95 * FIT, budgeted.explain()
    # near the limit an answer may be cut short: it is billed, and its run is refused when it asks again
    assert budgeted.asked - spent.counts["served"] <= PODS
    # the SDK would come back twice to a 429 that does not tell it to stay away
    assert spent.counts["http_requests"] == FIT + 60
    for refusal in spent.refusals:
        assert refusal["x-should-retry"] == "false"
        assert int(refusal["retry-after"]) > 3600
        assert str(budgeted.limit) not in refusal["body"]
    assert budgeted.agent.is_ready()


def test_kubectl_shows_how_much_of_the_budget_is_used(budgeted: Budgeted):
    def shown() -> bool:
        head, line = budgeted.kube.kubectl(
            "-n", budgeted.agent.namespace, "get", "ags", budgeted.agent.name
        ).splitlines()
        # a cell may be empty, so it is found by where its head stands
        told = re.match(r"(\d+)\s", line[head.index("TODAY") :])
        return told is not None and 95 <= int(told[1]) <= 100

    wait("kubectl shows the percentage", shown, seconds=90, why=budgeted.explain)
    # a little is left that fits nobody: it is Exhausted while somebody waits for it, else a Warning
    state = budgeted.agent.live()["status"]["budget"]["state"]
    assert state in ("Exhausted", "Warning")
    if state == "Exhausted":
        assert budgeted.agent.condition("BudgetAvailable")["status"] == "False"
    assert budgeted.agent.condition("Ready")["status"] == "True"


def test_a_raised_limit_holds_at_once_and_restarts_nothing(budgeted: Budgeted):
    restarts = budgeted.agent.restarts()
    with budgeted.caller.load(budgeted.agent.url, rate=8, body=QUESTION) as load:
        wait("it is refused", lambda: refused(load.last("run")), seconds=20, why=lambda: load.report)
        budgeted.limit += 400 * budgeted.worth
        changed = budgeted.apply()
        wait("it is served", lambda: _ok(load.last("run")), seconds=20, why=budgeted.explain)
        time.sleep(WITHIN_SECONDS + 1)
    later = [run for run in load.report.runs if run.began > changed + WITHIN_SECONDS]
    first = min(run.ended for run in load.report.runs if run.ok)
    print(f"served {first - changed:.2f} s after the limit was raised")
    assert first - changed <= WITHIN_SECONDS
    assert later
    assert all(run.ok for run in later), load.report
    assert budgeted.agent.restarts() == restarts


def test_a_limit_below_what_is_spent_refuses_at_once(budgeted: Budgeted):
    restarts = budgeted.agent.restarts()
    before, limit = budgeted.billed, budgeted.limit
    with budgeted.caller.load(budgeted.agent.url, rate=8, body=QUESTION) as load:
        wait("it is served", lambda: _ok(load.last("run")), seconds=20, why=lambda: load.report)
        budgeted.limit = before // 2
        changed = budgeted.apply()
        wait("it is refused", lambda: refused(load.last("run")), seconds=20, why=budgeted.explain)
        time.sleep(WITHIN_SECONDS + 1)
    later = [run for run in load.report.runs if run.began > changed + WITHIN_SECONDS]
    assert later
    assert all(refused(run) for run in later), load.report
    assert budgeted.agent.restarts() == restarts
    budgeted.limit = limit


def test_what_is_spent_stays_spent_when_the_agent_is_deleted_and_applied_again(budgeted: Budgeted):
    budgeted.limit = budgeted.billed
    budgeted.apply()
    budgeted.kube.kubectl("-n", budgeted.agent.namespace, "delete", "ags", budgeted.agent.name)
    wait("its pods are gone", lambda: not budgeted.agent.pods(), seconds=60, why=lambda: "")
    budgeted.apply()
    budgeted.agent.wait_ready()
    budgeted.is_refused()
    budgeted.goes_on(requests=40)


def test_what_is_spent_stays_spent_while_there_is_no_budget(budgeted: Budgeted):
    budgeted.apply(with_budget=False)
    budgeted.agent.wait_ready().wait_settled()
    budgeted.apply()
    budgeted.agent.wait_ready().wait_settled()
    budgeted.is_refused()
    budgeted.goes_on(requests=40)


def test_another_time_zone_gives_nothing_back(budgeted: Budgeted):
    budgeted.zone = "Pacific/Kiritimati"
    budgeted.apply()
    budgeted.agent.wait_ready()
    time.sleep(WITHIN_SECONDS)
    budgeted.is_refused()
    budgeted.goes_on(requests=40)


def test_a_ledger_edited_by_hand_within_the_rules_gives_nothing_back(budgeted: Budgeted):
    """Whatever the API server lets pass: holders struck out, what is wanted cleared, the seal taken off and put back."""
    budgeted.is_refused()
    names = (budgeted.agent.namespace, budgeted.agent.name)
    edits: tuple[Manifest, ...] = ({"seeded": False}, {"seeded": True}, {"holders": []}, {"closed": []})
    for edit in edits:
        budgeted.kube.kubectl(
            "-n", names[0], "patch", "agentledger", names[1], "--subresource=status", "--type=merge",
            f"--patch={json.dumps({'status': edit})}", check=False,
        )  # fmt: skip
        time.sleep(0.5)
    settled = budgeted.ledger()["status"]["windows"]
    less = [{**window, "settledTokens": 0} for window in settled]
    refusal = budgeted.kube.kubectl(
        "-n", names[0], "patch", "agentledger", names[1], "--subresource=status", "--type=merge",
        f"--patch={json.dumps({'status': {'windows': less}})}", check=False,
    )  # fmt: skip
    assert "invalid" in refusal.lower(), refusal
    budgeted.is_refused()
    budgeted.goes_on(requests=40)


def test_an_agents_account_may_keep_its_own_accounts_and_nothing_else(budgeted: Budgeted, unlimited: Agent):
    team, name = budgeted.agent.namespace, budgeted.agent.name
    account = budgeted.agent.pods()[0]["spec"]["serviceAccountName"]

    def can(*question: str, account: str = account) -> bool:
        who = f"--as=system:serviceaccount:{team}:{account}"
        said = budgeted.kube.kubectl("-n", team, "auth", "can-i", *question, who, check=False)
        return said.strip().splitlines()[-1] == "yes"

    ledger = f"agentledgers.agentservice.dev/{name}"
    assert all(can(verb, ledger) for verb in ("get", "watch"))
    assert can("patch", ledger, "--subresource=status")
    for verb in ("create", "update", "patch", "delete", "deletecollection"):
        assert not can(verb, ledger), verb
    for verb in ("create", "update", "delete"):
        assert not can(verb, ledger, "--subresource=status"), verb
    for verb in ("get", "list", "watch", "patch"):
        assert not can(verb, "agentledgers.agentservice.dev"), verb
        assert not can(verb, "agentledgers.agentservice.dev/another"), verb
        for kind in ("secrets", "configmaps", "pods", "agentservices.agentservice.dev", "serviceaccounts/token"):
            assert not can(verb, kind), f"{verb} {kind}"
    assert not can("get", ledger, account=unlimited.pods()[0]["spec"]["serviceAccountName"])
    listed = budgeted.kube.kubectl(
        "-n", team, "auth", "can-i", "--list", f"--as=system:serviceaccount:{team}:{account}"
    )
    rows = [line.split()[0] for line in listed.splitlines()[1:] if line.strip()]
    ours = {row for row in rows if re.fullmatch(r"[a-z.]+(/[a-z]+)?", row)}
    discovery = {"selfsubjectreviews.authentication.k8s.io", "selfsubjectaccessreviews.authorization.k8s.io"}
    discovery |= {"selfsubjectrulesreviews.authorization.k8s.io"}
    assert ours - discovery == {"agentledgers.agentservice.dev", "agentledgers.agentservice.dev/status"}


def test_a_token_is_mounted_only_with_a_budget(budgeted: Budgeted, unlimited: Agent):
    def tokens(agent: Agent) -> int:
        volumes = [volume for pod in agent.pods() for volume in pod["spec"].get("volumes", [])]
        sources = [source for volume in volumes for source in volume.get("projected", {}).get("sources", [])]
        return sum("serviceAccountToken" in source for source in sources)

    assert tokens(unlimited) == 0
    assert tokens(budgeted.agent) == len(budgeted.agent.pods())


def _ok(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.ok


def refused(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == 429
