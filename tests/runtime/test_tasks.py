"""Tasks as callers see them: real HTTP, a real Redis, and the provider's own count of requests as the truth."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.runtime.callers import ADA, AUTH, BATCH, WEB
from tests.services.redis_server import Persistence, RedisServer

from agentservice_cli.exits import ExitCode
from agentservice_cli.main import run as command

BOB = {"authorization": f"Bearer {WEB}", "x-caller-id": "bob"}
OTHER = {"authorization": f"Bearer {BATCH}"}
REDIS_URL = {"secretKeyRef": {"name": "redis", "key": "url"}}


def queued(configuration: Callable[..., dict[str, Any]], **parts: Any) -> dict[str, Any]:
    """A configuration with a queue of its own."""
    queue = {"redisUrl": REDIS_URL, "uid": uuid.uuid4().hex, **parts.pop("queue", {})}
    serving = {"concurrencyPerPod": 16, "drainTimeoutSeconds": 20, **parts.pop("serving", {})}
    return configuration(queue=queue, serving=serving, **parts)


def secrets(redis: RedisServer) -> dict[str, str]:
    return {"redis/url": redis.url, "web/token": WEB, "batch/token": BATCH}


@pytest.fixture(scope="module")
def agent(embed_shared: Any, configuration: Any, redis: RedisServer) -> Any:
    return embed_shared(queued(configuration, auth=AUTH), model="as-asked", secrets=secrets(redis))


def ask(agent: Any, value: Any, *, headers: dict[str, str] = ADA, **more: str) -> httpx2.Response:
    return agent.client.post("/v1/tasks", json={"input": value}, headers={**headers, **more})


def submit(agent: Any, value: Any, *, headers: dict[str, str] = ADA, **more: str) -> str:
    answer = ask(agent, value, headers=headers, **more)
    assert answer.status_code == 202, answer.text
    return answer.json()["task_id"]


def shown(agent: Any, id: str, *, headers: dict[str, str] = ADA, wait: float = 0) -> dict[str, Any]:
    answer = agent.client.get(f"/v1/tasks/{id}", params={"wait": wait}, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(agent: Any, id: str, *, headers: dict[str, str] = ADA) -> dict[str, Any]:
    """The task once it has ended, however slow the machine is; Redis may be away meanwhile."""
    deadline = time.monotonic() + 150
    while True:
        answer = agent.client.get(f"/v1/tasks/{id}", params={"wait": 20}, headers=headers, timeout=120)
        if answer.status_code == 200 and answer.json()["finished_at"]:
            return answer.json()
        assert answer.status_code in (200, 503), answer.text
        assert time.monotonic() < deadline, f"the task has not ended: {answer.text}"
        if answer.status_code == 503:
            time.sleep(0.2)


def events_of(agent: Any, id: str, *, after: str = "") -> list[tuple[str, str, str]]:
    """Each event of a task: its id, its name, its data."""
    headers = {**ADA, **({"last-event-id": after} if after else {})}
    answer = agent.client.get(f"/v1/tasks/{id}/events", headers=headers, timeout=150)
    assert answer.status_code == 200
    found = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["id"], fields["event"], fields["data"]))
    return found


def test_a_task_is_taken_in_at_once_and_answers_as_a_run_does(agent: Any) -> None:
    answer = ask(agent, "plain question")
    task = answer.json()
    assert (answer.status_code, task["status"]) == (202, "queued")
    assert task["check_url"] == answer.headers["location"] == f"/v1/tasks/{task['task_id']}"
    done = ended(agent, task["task_id"])
    assert (done["status"], done["attempts"]) == ("succeeded", 1)
    assert done["result"]["output"] == "word0 word1 word2 word3 "
    assert done["result"]["usage"]["requests"] == 1
    assert done["result"]["run_id"] == done["run_id"]
    (line,) = [line for line in agent.lines("run") if line["run_id"] == done["run_id"]]
    assert line["caller"] == "web/ada"


def test_a_task_counts_in_the_metrics_of_runs_and_of_the_queue(agent: Any, wait_until: Any) -> None:
    names = ("pydantic_ai_requests_total", "agentservice_tasks_submitted_total", "agentservice_tasks_attempts_total")
    before = [agent.metric(name) for name in names]
    finished = agent.metric("agentservice_tasks_finished_total", status="succeeded")
    ended(agent, submit(agent, "counted"))
    assert [agent.metric(name) for name in names] == [value + 1 for value in before]
    wait_until(lambda: agent.metric("agentservice_tasks_finished_total", status="succeeded") == finished + 1)
    assert agent.metric("agentservice_tasks_age_seconds_count") >= 1


@pytest.mark.parametrize("body", [{"input": ""}, {"question": "x"}, {"input": "x", "model": "y"}])
def test_what_does_not_fit_is_refused_before_it_is_queued(agent: Any, body: dict[str, Any]) -> None:
    before = agent.metric("agentservice_tasks_submitted_total")
    answer = agent.client.post("/v1/tasks", json=body, headers=ADA)
    assert (answer.status_code, answer.json()["category"]) == (422, "validation")
    assert agent.metric("agentservice_tasks_submitted_total") == before


@pytest.mark.parametrize(
    "path",
    ["?status=lost", "?limit=0", "?limit=101", "?before=x", "/x?wait=-1", "/x?wait=nan", "/x?wait=61", "/x?wait=a"],
)
def test_a_parameter_that_makes_no_sense_is_named(agent: Any, path: str) -> None:
    answer = agent.client.get(f"/v1/tasks{path}", headers=ADA)
    assert answer.status_code == 422
    assert path.partition("?")[2].partition("=")[0] in answer.json()["detail"]


def test_an_agent_without_a_queue_says_so(embed: Any, configuration: Any) -> None:
    agent = embed(configuration())
    for answer in (agent.client.post("/v1/tasks", json={"input": "x"}), agent.client.get("/v1/tasks/x")):
        assert (answer.status_code, answer.json()["title"]) == (404, "No queue")
    assert "/v1/tasks" not in agent.client.get("/openapi.json").json()["paths"]


def test_an_idempotency_key_makes_one_task_of_many_requests(agent: Any, provider: Any) -> None:
    key = uuid.uuid4().hex
    asked = f"once only {key}"
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(submit(agent, asked, **{"idempotency-key": key}))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert ended(agent, ids[0])["status"] == "succeeded"
    assert submit(agent, asked, **{"idempotency-key": key}) == ids[0]
    assert sum(asked in str(body) for body in provider.state()["bodies"]) == 1
    other = ask(agent, "something else", **{"idempotency-key": key})
    assert (other.status_code, other.json()["title"]) == (422, "Idempotency key in use")
    assert submit(agent, asked, headers=BOB, **{"idempotency-key": key}) != ids[0]


def test_a_task_is_its_callers_alone(agent: Any) -> None:
    id = submit(agent, "401 whose")
    ended(agent, id)
    for headers in (BOB, OTHER, {"authorization": f"Bearer {WEB}"}):
        client = httpx2.Client(base_url=agent.url, headers=headers, timeout=60)
        answers = [
            client.get(f"/v1/tasks/{id}"),
            client.get(f"/v1/tasks/{id}/events"),
            client.delete(f"/v1/tasks/{id}"),
            client.post(f"/v1/tasks/{id}/requeue"),
        ]
        assert [(a.status_code, a.json()["title"]) for a in answers] == [(404, "No such task")] * 4
        assert id not in client.get("/v1/tasks").text
    assert httpx2.get(f"{agent.url}/v1/tasks/{id}").status_code == 401
    assert id in agent.client.get("/v1/tasks", headers=ADA).text


def test_a_waiting_request_is_answered_when_the_task_ends(agent: Any, provider: Any, wait_until: Any) -> None:
    open_before = provider.state()["open"]
    id = submit(agent, "slow-1500 wait for me")
    wait_until(lambda: provider.state()["open"] > open_before)
    assert shown(agent, id)["status"] == "running"
    assert ended(agent, id)["status"] == "succeeded"


def test_a_running_task_is_cancelled_wherever_it_runs(agent: Any, provider: Any, wait_until: Any) -> None:
    cancelled = provider.state()["cancelled"]
    open_before = provider.state()["open"]
    id = submit(agent, "hang on")
    wait_until(lambda: provider.state()["open"] > open_before)
    answer = agent.client.delete(f"/v1/tasks/{id}", headers=ADA)
    assert answer.status_code in (200, 202)
    done = ended(agent, id)
    assert (done["status"], done["problem"]["category"]) == ("cancelled", "cancelled")
    wait_until(lambda: provider.state()["cancelled"] > cancelled)
    assert agent.client.delete(f"/v1/tasks/{id}", headers=ADA).status_code == 200


def test_a_task_that_has_ended_cannot_be_cancelled(agent: Any) -> None:
    id = submit(agent, "quick")
    ended(agent, id)
    answer = agent.client.delete(f"/v1/tasks/{id}", headers=ADA)
    assert (answer.status_code, answer.json()["title"]) == (409, "Task has ended")
    assert ended(agent, id)["status"] == "succeeded"


def test_progress_is_told_in_order_and_resumed_where_it_was_left(agent: Any) -> None:
    id = submit(agent, "stream-5-20 tell me")
    told = events_of(agent, id)
    assert [name for _, name, _ in told][:2] == ["status", "status"]
    assert told[-1][1] == "result"
    assert "delta" in [name for _, name, _ in told]
    for index, (place, _, _) in enumerate(told[:-1]):
        assert events_of(agent, id, after=place) == told[index + 1 :]
    last = agent.client.get(f"/v1/tasks/{id}/events", headers={**ADA, "last-event-id": told[-1][0]})
    assert last.status_code == 204
    wrong = agent.client.get(f"/v1/tasks/{id}/events", headers={**ADA, "last-event-id": "x"})
    assert wrong.status_code == 422


def test_a_failure_that_may_pass_is_tried_again(agent: Any) -> None:
    id = submit(agent, f"flaky-1-503 {uuid.uuid4().hex}")
    done = ended(agent, id)
    assert (done["status"], done["attempts"]) == ("succeeded", 2)
    told = [data for _, name, data in events_of(agent, id) if name == "status"]
    assert len(told) == 4
    assert '"status":"queued"' in told[2]
    assert "Model unavailable" in told[2]


def test_a_failure_that_would_come_again_ends_the_task_and_can_be_queued_again(agent: Any, wait_until: Any) -> None:
    id = submit(agent, "401 again")
    done = ended(agent, id)
    assert (done["status"], done["attempts"], done["reason"]) == ("failed", 1, "failure")
    assert done["problem"]["title"] == "Refused by the model's provider"
    assert WEB not in str(done)
    dead = agent.client.get("/v1/tasks", params={"status": "failed"}, headers=ADA).json()["tasks"]
    assert id in [task["task_id"] for task in dead]
    answer = agent.client.post(f"/v1/tasks/{id}/requeue", headers=ADA)
    assert answer.status_code == 202
    again = ended(agent, id)
    assert (again["status"], again["attempts"]) == ("failed", 1)
    assert again["run_id"] != done["run_id"]
    good = submit(agent, "quick")
    ended(agent, good)
    assert agent.client.post(f"/v1/tasks/{good}/requeue", headers=ADA).status_code == 409


def test_a_task_that_fails_as_often_as_it_may_is_given_up(embed: Any, configuration: Any, redis: RedisServer) -> None:
    config = queued(configuration, queue={"maxAttempts": 2})
    agent = embed(config, model="as-asked", secrets=secrets(redis))
    id = submit(agent, "503", headers={})
    done = ended(agent, id, headers={})
    assert (done["status"], done["attempts"], done["reason"]) == ("failed", 2, "attempts")
    assert done["problem"]["title"] == "Model unavailable"
    assert agent.metric("agentservice_tasks_dead_total", reason="attempts") == 1


def test_a_pod_without_room_is_no_attempt(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any, wait_until: Any
) -> None:
    config = queued(configuration, serving={"concurrencyPerPod": 1})
    agent = embed(config, model="as-asked", secrets=secrets(redis))
    open_before = provider.state()["open"]
    run = threading.Thread(target=lambda: httpx2.post(f"{agent.url}/v1/run", json={"input": "slow-5000"}, timeout=120))
    run.start()
    wait_until(lambda: provider.state()["open"] > open_before)
    done = ended(agent, submit(agent, "after that", headers={}), headers={})
    run.join(120)
    assert (done["status"], done["attempts"]) == ("succeeded", 1)


def test_nothing_of_a_task_stands_in_the_logs_but_who_asked(agent: Any) -> None:
    canary = f"canary-{uuid.uuid4().hex}"
    for model in ("quick", "401", "flaky-1-503"):
        ended(agent, submit(agent, f"{model} {canary}"))
    assert canary not in agent.stdout()
    assert WEB not in agent.stdout()


def test_without_redis_no_task_is_taken_in_and_a_run_under_way_is_kept(
    embed: Any, configuration: Any, installed: None, provider: Any, wait_until: Any
) -> None:
    with RedisServer(persistence=Persistence.AOF) as redis:
        agent = embed(queued(configuration), model="as-asked", secrets=secrets(redis))
        billed, open_before = provider.state()["billed"]["requests"], provider.state()["open"]
        id = submit(agent, "slow-2000 and keep it", headers={})
        wait_until(lambda: provider.state()["open"] > open_before)
        redis.kill()
        answer = ask(agent, "in vain", headers={})
        assert (answer.status_code, answer.json()["title"]) == (503, "Queue unavailable")
        assert answer.headers["retry-after"]
        wait_until(lambda: provider.state()["open"] == open_before)
        assert agent.run("the rest goes on").status_code == 200
        redis.start()
        done = ended(agent, id, headers={})
        assert (done["status"], done["attempts"]) == ("succeeded", 1)
        # one for the task, one for the run
        assert provider.state()["billed"]["requests"] == billed + 2


def test_a_redis_that_came_back_empty_serves_new_tasks(embed: Any, configuration: Any, installed: None) -> None:
    with RedisServer() as redis:
        agent = embed(queued(configuration), model="as-asked", secrets=secrets(redis))
        ended(agent, submit(agent, "one", headers={}), headers={})
        redis.command("FLUSHALL")
        assert ended(agent, submit(agent, "two", headers={}), headers={})["status"] == "succeeded"


def test_the_command_line_submits_shows_lists_cancels_and_queues_again(
    agent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str, code: ExitCode = ExitCode.OK) -> str:
        given = ["tasks", words[0], agent.url, *words[1:], "--token", BATCH]
        assert command(given) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return out if code is ExitCode.OK else err

    assert said("list") == "no tasks\n"
    assert said("submit", "quick words", "--wait").startswith("word0 word1")
    key = uuid.uuid4().hex
    first, again = (json.loads(said("submit", "401", "--key", key, "-o", "json"))["task_id"] for _ in range(2))
    assert first == again
    assert "Refused by the model's provider" in said("show", first, "--wait", code=ExitCode.FAILED)
    assert "succeeded" in said("list")
    dead = said("dead")
    assert (first in dead, "failure" in dead, "succeeded" in dead) == (True, True, False)
    assert first in said("requeue", "--all")
    ended(agent, first, headers=OTHER)
    assert first in said("requeue", first)
    ended(agent, first, headers=OTHER)
    assert "Task has ended" in said("cancel", first, code=ExitCode.FAILED)
    assert "it is not said which tasks" in said("requeue", code=ExitCode.USAGE)
    hanging = json.loads(said("submit", "hang", "-o", "json"))["task_id"]
    assert hanging in said("cancel", hanging)
    assert ended(agent, hanging, headers=OTHER)["status"] == "cancelled"


def test_the_documentation_of_an_agent_with_a_queue_tells_of_tasks(agent: Any) -> None:
    document = agent.client.get("/openapi.json").json()
    paths = {path: set(below) for path, below in document["paths"].items() if path.startswith("/v1/tasks")}
    assert paths == {
        "/v1/tasks": {"post", "get"},
        "/v1/tasks/{task_id}": {"get", "delete"},
        "/v1/tasks/{task_id}/requeue": {"post"},
        "/v1/tasks/{task_id}/events": {"get"},
    }
    page = agent.client.get("/docs").text
    assert "POST /v1/tasks" in page
    done = ended(agent, submit(agent, "quick"))
    known = document["components"]["schemas"]["Task"]["properties"]
    assert set(done) <= set(known)
    assert "tasks" in agent.client.get("/").json()
