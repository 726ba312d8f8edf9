"""Cancelling a run by its id, from another connection than its own."""

from __future__ import annotations

import sqlite3
import threading
import uuid

import httpx2
import openai
import pytest

WEB, BATCH = "canary-token-web-123456", "canary-token-batch-123456"
AUTH = {
    "type": "BearerToken",
    "tokens": [
        {"name": "web", "valueFrom": {"secretKeyRef": {"name": "support-web", "key": "token"}}},
        {"name": "batch", "valueFrom": {"secretKeyRef": {"name": "support-batch", "key": "token"}}},
    ],
    "callerHeader": "X-Caller-Id",
}


@pytest.fixture(scope="module")
def agent(launch_shared, configuration):
    secrets = {"support-web/token": WEB, "support-batch/token": BATCH}
    return launch_shared(configuration(auth=AUTH), model="as-asked", secrets=secrets)


def bearer(token, **more):
    return {"authorization": f"Bearer {token}", **more}


def cancel(agent, run_id, token=WEB, **headers):
    return httpx2.delete(f"{agent.url}/v1/runs/{run_id}", headers=bearer(token, **headers), timeout=60)


class Run:
    """A run under way, made by another thread."""

    def __init__(self, agent, provider, wait_until, *, path="/v1/run", command="hang", **headers):
        self.id = uuid.uuid4().hex
        self.headers = bearer(WEB, **{"x-run-id": self.id}, **headers)
        under_way = provider.state()["open"]
        self._thread = threading.Thread(target=self._ask, args=(f"{agent.url}{path}", command))
        self._thread.start()
        wait_until(lambda: provider.state()["open"] > under_way, what="the request to the provider")

    def _ask(self, url, command):
        self._answer = httpx2.post(url, json={"input": command}, headers=self.headers, timeout=120)

    @property
    def answer(self):
        self._thread.join(120)
        return self._answer


def test_a_run_is_cancelled_by_the_id_that_its_caller_gave_it(agent, provider, wait_until):
    before = provider.state()["cancelled"]
    run = Run(agent, provider, wait_until)
    done = cancel(agent, run.id)
    assert (done.status_code, done.json()) == (200, {"run_id": run.id, "status": "cancelled"})
    problem = run.answer.json()
    assert run.answer.status_code == problem["status"] == 409
    assert (problem["category"], problem["retryable"], problem["run_id"]) == ("cancelled", False, run.id)
    assert run.answer.headers["x-run-id"] == run.id
    assert run.answer.headers["x-should-retry"] == "false"
    wait_until(lambda: provider.state()["cancelled"] > before, what="the end of the request to the provider")
    (line,) = wait_until(lambda: [x for x in agent.lines("run") if x["run_id"] == run.id])
    assert (line["category"], line["caller"], line["level"]) == ("cancelled", "web", "info")
    assert 'requests_total{agent_name="support",status="cancelled"}' in agent.client.get("/metrics").text
    again = cancel(agent, str(uuid.UUID(run.id)))
    assert (again.status_code, again.json()["status"]) == (200, "cancelled"), "twice is as good as once"


def test_a_stream_that_is_cancelled_ends_with_an_error(agent, provider, wait_until, events):
    run = Run(agent, provider, wait_until, path="/v1/stream", command="stream-600-100")
    assert cancel(agent, run.id).status_code == 200
    found = events(run.answer.text)
    assert [name for name, _ in found if name != "delta"] == ["error"]
    assert (found[-1][1]["category"], found[-1][1]["run_id"]) == ("cancelled", run.id)


def test_openais_sdk_is_told_and_does_not_ask_again(agent, provider, wait_until):
    run_id = str(uuid.uuid4())
    client = openai.OpenAI(base_url=f"{agent.url}/v1", api_key=WEB, timeout=120)
    under_way = provider.state()["open"]
    provider.forget()
    told = []

    def ask():
        with pytest.raises(openai.ConflictError) as caught:
            client.chat.completions.create(
                model="support", messages=[{"role": "user", "content": "hang"}], extra_headers={"X-Run-Id": run_id}
            )
        told.append(caught.value)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: provider.state()["open"] > under_way, what="the request to the provider")
    assert cancel(agent, run_id).status_code == 200
    thread.join(120)
    assert told[0].code == "cancelled"
    assert provider.state()["requests"] == 1


def test_the_id_in_the_answers_head_serves_as_well(agent):
    url, headers = f"{agent.url}/v1/stream", bearer(WEB)
    with httpx2.stream("POST", url, json={"input": "stream-600-100"}, headers=headers, timeout=120) as answer:
        assert cancel(agent, answer.headers["x-run-id"]).status_code == 200
        assert '"category":"cancelled"' in answer.read().decode()


def test_a_run_of_another_caller_is_as_unknown_as_none(agent, provider, wait_until):
    run = Run(agent, provider, wait_until, **{"x-caller-id": "ada"})
    for answer in (
        cancel(agent, run.id, token=BATCH),
        cancel(agent, run.id),
        cancel(agent, run.id, **{"x-caller-id": "bob"}),
        cancel(agent, uuid.uuid4().hex),
    ):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert "another pod" in answer.json()["detail"]
    assert cancel(agent, run.id, token="wrong").status_code == 401
    assert cancel(agent, "no-uuid").status_code == 422
    assert cancel(agent, run.id, **{"x-caller-id": "ada"}).status_code == 200
    assert run.answer.status_code == 409


def test_a_run_that_has_answered_is_no_longer_there(agent):
    answer = agent.run("echo", headers=bearer(WEB))
    assert cancel(agent, answer.headers["x-run-id"]).status_code == 404


def test_an_id_is_given_to_one_run_at_a_time(agent, provider, wait_until):
    run = Run(agent, provider, wait_until)
    for path in ("/v1/run", "/v1/stream"):
        taken = agent.client.post(path, json={"input": "echo"}, headers=run.headers)
        assert (taken.status_code, taken.json()["title"]) == (409, "Run id in use")
    others = {**run.headers, **bearer(BATCH)}
    assert agent.run("echo", headers=others).status_code == 200, "another caller's ids are another caller's"
    assert cancel(agent, run.id).status_code == 200
    assert run.answer.json()["category"] == "cancelled"
    assert agent.run("echo", headers=run.headers).json()["run_id"] == run.id
    assert agent.run("echo", headers=bearer(WEB, **{"x-run-id": "mine"})).status_code == 422


def test_what_a_cancelled_run_has_cost_is_settled(launch, configuration, provider, wait_until, tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    monkeypatch.setenv("AGENTSERVICE_LEDGER", str(path))
    terms = {"enforcement": "Hard", "windows": [{"name": "daily", "tokens": 1_000_000}], "prices": []}
    config = configuration(budget={"ledger": "SQLite", "terms": terms}, auth=AUTH)
    secrets = {"support-web/token": WEB, "support-batch/token": BATCH}
    agent = launch(config, model="as-asked", secrets=secrets)
    provider.forget()
    run = Run(agent, provider, wait_until)
    assert cancel(agent, run.id).status_code == 200
    assert run.answer.status_code == 409
    with sqlite3.connect(path) as db:

        def account():
            (row,) = db.execute(
                "SELECT reserved_tokens, settled_tokens + presumed_tokens FROM window WHERE name = 'daily'"
            ).fetchall()
            return row

        wait_until(lambda: account()[0] == 0, what="the reservation's end")
        assert account()[1] >= provider.state()["billed"]["tokens"] > 0


def test_a_plain_function_that_runs_on_does_not_hold_up_the_cancellation(
    launch, configuration, provider, wait_until, tmp_path
):
    """Its thread cannot be stopped, but nobody waits for it."""
    code = {
        "mine.py": "import pathlib, time\n"
        "def slow(x: int) -> str:\n    pathlib.Path('begun').touch()\n    time.sleep(600)\n    return 'x'\n"
    }
    agent = launch(configuration(agent={"instructions": "x", "tools": ["mine:slow"]}), model="tool", code=code)
    run_id = uuid.uuid4().hex
    answers = []

    def ask():
        answers.append(
            httpx2.post(f"{agent.url}/v1/run", json={"input": "x"}, headers={"x-run-id": run_id}, timeout=120)
        )

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until((agent.folder / "app/begun").exists, what="the tool's beginning")
    assert cancel(agent, run_id).status_code == 200
    thread.join(120)
    assert answers[0].json()["category"] == "cancelled"
