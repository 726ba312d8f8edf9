"""A2A 1.0 in front of an agent, as the protocol's own SDK sees it."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.errors import A2AClientError
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    TaskState,
)
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from tests.runtime.typed_agent import AUTH, INPUT, OUTPUT, TOKEN
from tests.services.redis_server import RedisServer

EVER = 150
REDIS = {"url": {"secretKeyRef": {"name": "store", "key": "url"}}, "store": "Redis"}


@pytest.fixture(scope="module")
def agent(embed_shared: Any, configuration: Callable[..., dict[str, Any]]) -> Any:
    """An agent whose model does what the first word of the first message says."""
    key = {"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    config = configuration(auth=AUTH, model={"name": "x", **key})
    return embed_shared(
        config, model="as-asked", secrets={"support-web/token": TOKEN, "openai/api-key": "sk-canary-key"}
    )


class Talk:
    """One of the SDK's clients. It finds the agent by its card."""

    def __init__(self, agent: Any, *, token: str | None = TOKEN, streaming: bool = False) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=EVER, trust_env=False)
        self._http.headers["A2A-Version"] = "1.0"
        self._url = agent.url
        self._config = ClientConfig(httpx_client=self._http, streaming=streaming)
        self.card = AgentCard()
        self.client: Client

    async def __aenter__(self) -> Talk:
        self.card = await A2ACardResolver(self._http, self._url).get_agent_card()
        self.client = ClientFactory(self._config).create(self.card)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def say(self, *parts: Any, context: str = "", **more: Any) -> list[StreamResponse]:
        said = [ParseDict({"text": part} if isinstance(part, str) else part, Part()) for part in parts]
        message = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=said, context_id=context, **more)
        return [event async for event in self.client.send_message(SendMessageRequest(message=message))]


def post(agent: Any, body: Any, *, token: str = TOKEN, **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {token}", "content-type": "application/json", **headers}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{agent.url}/v1/a2a", content=content, headers=sent, timeout=EVER, trust_env=False)


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def message(text: str = "echo") -> dict[str, Any]:
    return {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}


def text_of(events: list[StreamResponse]) -> str:
    return "".join(p.text for e in events if e.HasField("artifact_update") for p in e.artifact_update.artifact.parts)


async def test_the_card_says_how_to_ask_and_nothing_secret(agent: Any) -> None:
    async with Talk(agent, token=None) as talk:
        card = talk.card
    (interface,) = card.supported_interfaces
    assert (interface.url, interface.protocol_binding) == (f"{agent.url}/v1/a2a", "JSONRPC")
    assert interface.protocol_version == "1.0"
    assert (card.name, card.version, card.capabilities.streaming) == ("support", "5f2c9d1a", True)
    assert card.security_schemes["token"].http_auth_security_scheme.scheme == "Bearer"
    assert list(card.security_requirements[0].schemes) == ["token"]
    assert [skill.id for skill in card.skills] == ["support"]
    assert card.skills[0].description
    told = agent.client.get("/v1/a2a/.well-known/agent-card.json")
    for secret in ("Answer briefly", "canary", "as-asked"):
        assert secret not in told.text


def test_the_card_names_the_address_that_it_was_asked_at(agent: Any) -> None:
    headers = {"host": "agents.example.com", "x-forwarded-proto": "https"}
    card = httpx.get(f"{agent.url}/.well-known/agent-card.json", headers=headers, trust_env=False)
    assert card.json()["supportedInterfaces"][0]["url"] == "https://agents.example.com/v1/a2a"
    assert card.headers["cache-control"].startswith("private")
    assert "Host" in card.headers["vary"]
    wrong = {"host": "agents.example.com", "x-forwarded-proto": "javascript"}
    card = httpx.get(f"{agent.url}/.well-known/agent-card.json", headers=wrong, trust_env=False)
    assert card.json()["documentationUrl"] == "http://agents.example.com/docs"


async def test_a_message_is_answered_by_a_message_that_says_what_it_cost(agent: Any, wait_until: Any) -> None:
    async with Talk(agent) as talk:
        ((event,)) = await talk.say("echo", " hello")
    answer = event.message
    assert (answer.role, [part.text for part in answer.parts]) == (Role.ROLE_AGENT, ["You said: echo hello"])
    about = MessageToDict(answer.metadata)
    assert about["usage"]["total_tokens"] == 28
    assert answer.context_id
    (line,) = wait_until(lambda: [x for x in agent.lines("run") if x["run_id"] == about["run_id"]])
    assert (line["category"], line["caller"]) == ("success", "web")


async def test_a_stream_is_a_task_whose_artifact_grows(agent: Any) -> None:
    async with Talk(agent, streaming=True) as talk:
        events = await talk.say("echo")
    first, *updates, last = events
    assert first.task.status.state == TaskState.TASK_STATE_WORKING
    assert text_of(events) == "word0 word1 word2 word3 "
    assert [e.artifact_update.append for e in updates] == [False, True, True, True]
    assert last.status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert {e.artifact_update.task_id for e in updates} == {first.task.id, last.status_update.task_id}
    assert MessageToDict(last.status_update.metadata)["run_id"] == first.task.id


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_typed_agent_takes_data_or_its_json_and_answers_data(
    embed: Any, configuration: Any, provider: Any, streaming: bool
) -> None:
    typed = {"instructions": "Help.", "input": INPUT, "outputSchema": OUTPUT}
    agent = embed(configuration(agent=typed), model="echo")
    value = {"customer_id": 7, "issue": "late"}
    expected = {"response": "done", "suggested_actions": ["a", "b"], "escalated": True}
    async with Talk(agent, token=None, streaming=streaming) as talk:
        assert list(talk.card.default_input_modes) == ["application/json"]
        assert not talk.card.security_requirements
        for part in ({"data": value}, json.dumps(value)):
            events = await talk.say(part)
            artifact = events[1].artifact_update.artifact if streaming else events[0].message
            assert MessageToDict(artifact.parts[0])["data"] == expected
            assert provider.state()["bodies"][-1]["messages"][-1]["content"] == "Customer 7: late"
        with pytest.raises(InvalidParamsError) as told:
            await talk.say({"data": {"issue": "late"}})
        assert "customer_id" in told.value.message
        with pytest.raises(InvalidParamsError):
            await talk.say("hello")


async def test_a_context_is_remembered_where_the_agent_remembers(
    embed: Any, configuration: Any, provider: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSERVICE_CONVERSATIONS_ANSWER_SECONDS", "60")
    secrets = {"support-web/token": TOKEN, "store/url": redis.url}
    agent = embed(configuration(auth=AUTH, conversations=REDIS), model="echo", secrets=secrets)
    async with Talk(agent) as talk:
        (first,) = await talk.say("my name is Ada")
        context = first.message.context_id
        (second,) = await talk.say("who am I?", context=context)
    said = [m["content"] for m in provider.state()["bodies"][-1]["messages"][1:]]
    assert said == ["my name is Ada", "You said: my name is Ada", "who am I?"]
    assert second.message.context_id == context
    assert MessageToDict(second.message.metadata)["remembered"] is True
    async with Talk(agent, streaming=True) as talk:
        events = await talk.say("and now?", context=context)
        await talk.say("a stranger", context="")
    assert events[0].task.context_id == context
    assert len(provider.state()["bodies"][-1]["messages"]) == 2
    headers = {"authorization": f"Bearer {TOKEN}"}
    shown = agent.client.get(f"/v1/conversations/{context}", headers=headers)
    assert len(shown.json()["messages"]) == 6


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("command", "category"), [("429", "rate_limit"), ("500", "external_service")])
async def test_a_failure_is_an_error_in_our_words(agent: Any, command: str, category: str, streaming: bool) -> None:
    async with Talk(agent, streaming=streaming) as talk:
        with pytest.raises(InternalError) as told:
            await talk.say(command)
    about = told.value.data or {}
    assert (about["category"], about["retryable"]) == (category, "true")
    assert about["run_id"]
    assert "canary" not in f"{told.value.message} {about}"
    raw = post(agent, rpc("SendMessage", message=message(command)))
    assert (raw.status_code, raw.json()["id"]) == (200, 7)
    assert raw.json()["error"]["data"][0]["reason"] == category.upper()
    assert "canary" not in raw.text


async def test_a_stream_that_breaks_ends_with_a_failed_task(agent: Any) -> None:
    async with Talk(agent, streaming=True) as talk:
        events = await talk.say("break")
    assert text_of(events).startswith("word0")
    last = events[-1].status_update.status
    assert last.state == TaskState.TASK_STATE_FAILED
    assert MessageToDict(last.message.metadata)["problem"]["category"] == "rate_limit"
    assert "canary" not in str(events)


async def test_only_holders_of_a_token_may_ask(agent: Any) -> None:
    for streaming in (False, True):
        async with Talk(agent, token="wrong", streaming=streaming) as talk:
            with pytest.raises(A2AClientError) as told:
                await talk.say("echo")
        assert "401" in str(told.value)
    refused = post(agent, rpc("SendMessage", message=message()), token="wrong")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.json()["error"]["code"] == -32600


async def test_a_task_that_is_streamed_is_known_and_cancelled_by_its_caller_alone(agent: Any, wait_until: Any) -> None:
    events: list[dict[str, Any]] = []
    body = rpc("SendStreamingMessage", message=message("stream-100000-50"))
    headers = {"authorization": f"Bearer {TOKEN}"}

    def stream() -> None:
        with httpx.stream(
            "POST", f"{agent.url}/v1/a2a", json=body, headers=headers, timeout=EVER, trust_env=False
        ) as answer:
            events.extend(json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))

    asking = threading.Thread(target=stream)
    run_id = str(uuid.uuid4())
    headers["x-run-id"] = run_id
    asking.start()
    task_id = uuid.UUID(run_id).hex
    async with Talk(agent) as talk:

        def known() -> bool:
            return "result" in post(agent, rpc("GetTask", id=task_id)).json()

        wait_until(known, what="the task")
        found = await talk.client.get_task(GetTaskRequest(id=task_id))
        assert (found.id, found.status.state) == (task_id, TaskState.TASK_STATE_WORKING)
        with pytest.raises(TaskNotFoundError):
            await talk.client.get_task(GetTaskRequest(id=uuid.uuid4().hex))
        with pytest.raises(TaskNotFoundError):
            await talk.client.cancel_task(CancelTaskRequest(id="no-such-task"))
        ended = await talk.client.cancel_task(CancelTaskRequest(id=task_id))
        assert ended.status.state == TaskState.TASK_STATE_CANCELED
        asking.join(EVER)
        with pytest.raises(TaskNotFoundError):
            await talk.client.get_task(GetTaskRequest(id=task_id))
    assert events[-1]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_CANCELED"


async def test_what_the_agent_cannot_do_is_refused_with_the_protocols_error(agent: Any, provider: Any) -> None:
    before = provider.state()["requests"]
    async with Talk(agent) as talk:
        for part in ({"url": "http://169.254.169.254/", "mediaType": "image/png"}, {"raw": "AAAA"}, {"data": {"a": 1}}):
            with pytest.raises(ContentTypeNotSupportedError):
                await talk.say(part)
        with pytest.raises(UnsupportedOperationError):
            await talk.say("echo", task_id="t-1")
    assert provider.state()["requests"] == before


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        ([], -32600),
        ({"method": "SendMessage"}, -32600),
        ({"jsonrpc": "2.0", "method": 7}, -32600),
        (rpc("Fly"), -32601),
        (rpc("message/send"), -32009),
        ({**rpc("SendMessage"), "params": []}, -32602),
        (rpc("SendMessage"), -32602),
        (rpc("SendMessage", message={**message(), "role": "ROLE_AGENT"}), -32602),
        (rpc("SendMessage", message={**message(), "parts": []}), -32602),
        (rpc("SendMessage", message={**message(), "parts": "x"}), -32602),
        (rpc("SendMessage", message={**message(), "contextId": "a b"}), -32602),
        (rpc("SendMessage", message=message(" ")), -32602),
        (rpc("GetTask"), -32602),
        (rpc("CreateTaskPushNotificationConfig"), -32003),
        (rpc("SendMessage", message=message(), configuration={"taskPushNotificationConfig": {"url": "http://x"}}), -32003),
        (rpc("GetExtendedAgentCard"), -32007),
        (rpc("ListTasks"), -32004),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_request_has_the_protocols_code_and_costs_nothing(
    agent: Any, provider: Any, body: Any, code: int
) -> None:
    before = provider.state()["requests"]
    answer = post(agent, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)
    assert answer.json()["error"]["message"]
    assert provider.state()["requests"] == before


def test_another_version_is_refused_and_none_is_this_one(agent: Any) -> None:
    for version, told in (("0.3", "error"), ("2.0", "error"), ("1.0", "result"), ("1.0.2", "result")):
        assert told in post(agent, rpc("SendMessage", message=message()), **{"a2a-version": version}).json(), version
    assert "result" in post(agent, rpc("SendMessage", message=message())).json()


def test_it_is_documented(agent: Any) -> None:
    paths = agent.client.get("/openapi.json").json()["paths"]
    assert {"/v1/a2a", "/.well-known/agent-card.json"} <= set(paths)
    assert "/v1/a2a" in agent.client.get("/docs").text


@pytest.fixture
def queued(embed: Any, configuration: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An agent with a queue that remembers contexts."""
    monkeypatch.setenv("AGENTSERVICE_CONVERSATIONS_ANSWER_SECONDS", "60")
    queue = {"redisUrl": REDIS["url"], "uid": uuid.uuid4().hex}
    key = {"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    config = configuration(auth=AUTH, conversations=REDIS, queue=queue, model={"name": "x", **key})
    secrets = {"support-web/token": TOKEN, "store/url": redis.url, "openai/api-key": "sk-canary-key"}
    return embed(config, model="as-asked", secrets=secrets)


def immediate(text: str, **more: Any) -> dict[str, Any]:
    said = {**message(text), "messageId": uuid.uuid4().hex, **more}
    return rpc("SendMessage", message=said, configuration={"returnImmediately": True})


def ended(agent: Any, task_id: str) -> dict[str, Any] | None:
    task = post(agent, rpc("GetTask", id=task_id)).json()["result"]
    return None if task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING") else task


async def test_a_client_that_does_not_wait_is_given_a_task_of_the_queue(
    queued: Any, provider: Any, wait_until: Any
) -> None:
    async with Talk(queued) as talk:
        said = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=[Part(text="echo, I am Ada")])
        request = SendMessageRequest(message=said)
        request.configuration.return_immediately = True
        ((event,)) = [e async for e in talk.client.send_message(request)]
        (again,) = [e async for e in talk.client.send_message(request)]
        task = event.task
        assert task.status.state == TaskState.TASK_STATE_SUBMITTED
        assert again.task.id == task.id, "a message that is sent again is the same task"
        wait_until(lambda: ended(queued, task.id), what="the task's end")
        done = await talk.client.get_task(GetTaskRequest(id=task.id))
        assert done.status.state == TaskState.TASK_STATE_COMPLETED
        assert done.context_id == task.context_id
        assert [part.text for part in done.artifacts[0].parts] == ["word0 word1 word2 word3 "]
        assert MessageToDict(done.metadata)["usage"]["total_tokens"] == 28
        (answer,) = await talk.say("who am I?", context=task.context_id)
        assert answer.message.parts[0].text == "You said: who am I?"
    assert [m["content"] for m in provider.state()["bodies"][-1]["messages"][1:]] == [
        "echo, I am Ada",
        "word0 word1 word2 word3 ",
        "who am I?",
    ]


def test_a_task_of_the_queue_that_fails_or_is_cancelled_says_so(queued: Any, wait_until: Any) -> None:
    task_id = post(queued, immediate("400")).json()["result"]["task"]["id"]
    failed = wait_until(lambda: ended(queued, task_id), what="the task's end")
    assert failed["status"]["state"] == "TASK_STATE_FAILED"
    assert failed["status"]["message"]["metadata"]["problem"]["status"] == 422
    assert "canary" not in json.dumps(failed)
    refused = post(queued, rpc("CancelTask", id=task_id)).json()["error"]
    assert refused["code"] == -32002
    task_id = post(queued, immediate("hang")).json()["result"]["task"]["id"]
    post(queued, rpc("CancelTask", id=task_id))
    cancelled = wait_until(lambda: ended(queued, task_id), what="the task's end")
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    assert post(queued, rpc("GetTask", id=uuid.uuid4().hex)).json()["error"]["code"] == -32001


def test_a_task_of_the_queue_is_a_turn_of_its_conversation(queued: Any, provider: Any, wait_until: Any) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    name = f"c-{uuid.uuid4()}"
    for said in ("echo one", "two"):
        given = {"input": said, "conversation_id": name}
        task = queued.client.post("/v1/tasks", json=given, headers=headers)
        assert task.status_code == 202, task.text
        where = task.json()["check_url"]
        done = wait_until(
            lambda where=where: queued.client.get(where, headers=headers).json().get("result"), what="the task's end"
        )
        assert (done["conversation_id"], done["remembered"]) == (name, True)
    assert [m["content"] for m in provider.state()["bodies"][-1]["messages"][1:]] == [
        "echo one",
        "word0 word1 word2 word3 ",
        "two",
    ]
    refused = queued.client.post("/v1/tasks", json={"input": "x", "conversation_id": "a b"}, headers=headers)
    assert refused.status_code == 422
