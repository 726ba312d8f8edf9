"""Who may call, how many at once, and what happens to callers that are slow, gone or too many."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import httpx2
import pytest

AUTH = {
    "type": "BearerToken",
    "tokens": [
        {"name": "web", "valueFrom": {"secretKeyRef": {"name": "support-web", "key": "token"}}},
        {"name": "batch", "valueFrom": {"secretKeyRef": {"name": "support-batch", "key": "token"}}},
    ],
    "callerHeader": "X-Caller-Id",
}
WEB = "canary-token-web-123456"
BATCH = "canary-token-batch-123456"


@pytest.fixture(scope="module")
def guarded(launch_shared, configuration):
    key = {"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    config = configuration(auth=AUTH, model={"name": "x", **key})
    secrets = {"support-web/token": f"{WEB}\n", "support-batch/token": BATCH, "openai/api-key": "sk-canary-first-key"}
    return launch_shared(config, model="as-asked", secrets=secrets)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def test_only_holders_of_a_token_may_call(guarded):
    for headers in (
        {},
        bearer("wrong"),
        {"authorization": "Bearer"},
        {"authorization": WEB},
        {"authorization": f"Basic {WEB}"},
        bearer(WEB[:-1]),
        bearer(f"{WEB}x"),
        {"authorization": b"Bearer \xff\xfe"},
    ):
        answer = guarded.run("echo", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "canary" not in answer.text
    assert guarded.run("echo", headers=bearer(WEB)).status_code == 200
    assert guarded.run("echo", headers={"authorization": f"bearer {BATCH}"}).status_code == 200
    for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json"):
        assert guarded.client.get(path).status_code == 200
    assert guarded.client.post("/v1/stream", json={"input": "echo"}).status_code == 401


def test_a_token_is_asked_for_before_the_body_is_read(guarded):
    answer = guarded.client.post("/v1/run", content=b"{nonsense", headers={"content-type": "application/json"})
    assert answer.status_code == 401


def test_the_caller_is_known_by_token_and_header(guarded):
    def line_of(answer):
        (line,) = [x for x in guarded.lines("run") if x["run_id"] == answer.json()["run_id"]]
        return line

    assert line_of(guarded.run("echo", headers=bearer(WEB)))["caller"] == "web"
    answer = guarded.run("echo", headers={**bearer(BATCH), "x-caller-id": "user-7"})
    assert line_of(answer)["caller"] == "batch/user-7"


def test_a_rotated_token_and_key_are_used_at_once_and_fail_no_request(guarded, provider, wait_until):
    provider.forget()
    failures = []
    stop = threading.Event()

    def callers():
        with httpx2.Client(base_url=guarded.url) as client:
            while not stop.is_set():
                answer = client.post("/v1/run", json={"input": "echo"}, headers=bearer(WEB))
                if answer.status_code != 200:
                    failures.append(answer.text)

    thread = threading.Thread(target=callers)
    thread.start()
    wait_until(lambda: provider.state()["keys"])
    guarded.secret("openai", "api-key", "sk-canary-second-key")
    guarded.secret("support-batch", "token", "canary-token-batch-new")
    wait_until(lambda: provider.state()["keys"][-1] == "Bearer sk-canary-second-key")
    stop.set()
    thread.join()
    assert failures == []
    keys = provider.state()["keys"]
    assert keys[0] == "Bearer sk-canary-first-key"
    assert guarded.run("echo", headers=bearer(BATCH)).status_code == 401
    assert guarded.run("echo", headers=bearer("canary-token-batch-new")).status_code == 200


def test_no_key_and_no_token_is_told_anywhere(guarded):
    for command in ("401", "500", "malformed", "break"):
        guarded.run(command, headers=bearer(WEB))
        guarded.client.post("/v1/stream", json={"input": command}, headers=bearer(WEB))
    told = guarded.stdout() + guarded.stderr()
    told += "".join(guarded.client.get(p).text for p in ("/metrics", "/docs", "/openapi.json", "/ready", "/"))
    assert "canary" not in told


def test_debug_logging_tells_no_key_and_no_content_either(launch, configuration):
    key = {"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}
    config = configuration(model={"name": "x", **key}, observability={"logLevel": "debug"})
    agent = launch(config, model="echo", secrets={"openai/api-key": "sk-canary-key"}, environ={"OPENAI_LOG": "debug"})
    assert agent.run("canary prompt").status_code == 200
    assert "canary" not in agent.stdout() + agent.stderr()


def test_more_than_the_pod_can_run_wait_and_then_are_told_to_come_again(launch, configuration):
    config = configuration(serving={"concurrencyPerPod": 2, "drainTimeoutSeconds": 10})
    agent = launch(config, model="slow-4000")
    answers = []

    def call():
        answers.append(httpx2.post(f"{agent.url}/v1/run", json={"input": "x"}, timeout=30))

    threads = [threading.Thread(target=call) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [a for a in answers if a.status_code == 503]
    assert sorted(a.status_code for a in answers) == [200] * 2 + [503] * 5
    assert all(a.headers["retry-after"] == "1" and a.json()["category"] == "overloaded" for a in refused)
    assert agent.run("x").status_code == 200, "the slots are free again"


@pytest.mark.parametrize("path", ["/v1/run", "/v1/stream"])
def test_a_client_that_hangs_up_stops_its_run(launch, configuration, provider, wait_until, path):
    config = configuration(serving={"concurrencyPerPod": 1, "drainTimeoutSeconds": 10})
    agent = launch(config, model="hang" if path == "/v1/run" else "stream-100-100")
    before = provider.state()["cancelled"]
    with (
        pytest.raises(httpx2.ReadTimeout),
        httpx2.stream("POST", f"{agent.url}{path}", json={"input": "x"}, timeout=3) as r,
    ):
        for chunk in r.iter_bytes():
            if b"word3" in chunk:
                raise httpx2.ReadTimeout("enough")
    wait_until(lambda: provider.state()["cancelled"] > before, what="the end of the request to the provider")
    wait_until(lambda: agent.lines("run"))
    assert agent.lines("run")[0]["category"] == "cancelled"
    assert 'active_requests{agent_name="support"} 0.0' in agent.client.get("/metrics").text


def test_fifty_slow_clients_disturb_nobody_and_are_cut_off(launch):
    agent = launch()
    head = b"POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    sockets = []
    for i in range(50):
        s = socket.create_connection(("127.0.0.1", agent.port))
        s.sendall(head if i % 2 else head + b"\r\n{")
        sockets.append(s)
    began = time.monotonic()
    while time.monotonic() - began < 15:
        # they trickle: each byte would extend a deadline that counts from the last one
        for i, s in enumerate(sockets):
            with contextlib.suppress(OSError):
                s.sendall(b"X-A: b\r\n" if i % 2 else b" ")
        assert httpx2.post(f"{agent.url}/v1/run", json={"input": "x"}, timeout=30).status_code == 200
        time.sleep(0.4)
    for i, s in sorted(enumerate(sockets), key=lambda each: -(each[0] % 2)):
        # heads have 10 seconds in all, and the last byte was sent just now; bodies have 20
        s.settimeout(1 if i % 2 else 30)
        try:
            said = s.recv(65536)
        except ConnectionResetError:
            said = b""
        # whoever sent no whole head is cut off, whoever sends a body too slowly is told so
        assert said == b"" if i % 2 else b" 408 " in said.splitlines()[0]
        s.close()
    assert agent.run("x").status_code == 200


def test_a_client_that_does_not_read_its_answer_is_cut_off(launch, configuration, provider, wait_until):
    """The kernel's buffers are filled first, so the stream is long and the client's buffer small."""
    code = {
        "mine.py": "from pydantic_ai import Agent\nfrom pydantic_ai.models.function import FunctionModel\n"
        "async def words(messages, info):\n    while True:\n        yield 'x' * 65536\n"
        "agent = Agent(FunctionModel(stream_function=words))\n"
    }
    config = configuration(agent={"entrypoint": "mine:agent", "limits": {"runTimeoutSeconds": 2}}, model={"name": ""})
    agent = launch(config, code=code)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", agent.port))
    body = b'{"input": "x"}'
    head = (
        f"POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    s.sendall(head.encode() + body)
    (line,) = wait_until(lambda: agent.lines("run"), seconds=60, what="the end of the run")
    assert line["category"] in ("timeout", "cancelled")
    assert agent.client.get("/health").status_code == 200
    s.close()


def test_half_a_request_and_garbage_do_not_disturb(launch):
    agent = launch()
    for content in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
        b"POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{",
    ):
        s = socket.create_connection(("127.0.0.1", agent.port))
        s.sendall(content)
        s.close()
    assert agent.run("x").status_code == 200
    assert "Traceback" not in agent.stdout() + agent.stderr()
