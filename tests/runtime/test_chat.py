"""OpenAI's chat completions in front of an agent, as OpenAI's own SDK sees them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import openai
import pytest
from tests.runtime.typed_agent import AUTH, INPUT, OUTPUT, TOKEN

PAGE = Path(__file__).resolve().parents[2] / "docs/interfaces.md"
TOOL = {"mine.py": "def lookup(x: int) -> str:\n    return 'hidden result'\n"}


@pytest.fixture(scope="module")
def agent(launch_shared, configuration):
    """A process whose model does what the first word of the first message says."""
    config = configuration(auth=AUTH, agent={"instructions": "Answer briefly."})
    return launch_shared(config, model="as-asked", secrets={"support-web/token": TOKEN})


@pytest.fixture(scope="module")
def typed(launch_shared, configuration):
    return launch_shared(
        configuration(agent={"instructions": "Help.", "input": INPUT, "outputSchema": OUTPUT}), model="echo"
    )


def sdk(agent, *, token=TOKEN, retries=0):
    return openai.OpenAI(base_url=f"{agent.url}/v1", api_key=token, max_retries=retries, timeout=60)


def ask(agent, *contents, client=None, **fields):
    """Ask with messages of alternating roles, the last the user's."""
    roles = ["user" if (len(contents) - i) % 2 else "assistant" for i in range(len(contents))]
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    client = client or sdk(agent)
    return client.chat.completions.create(**{"model": "support", "messages": messages, **fields})


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def refused(kind, agent, *contents, **fields):
    with pytest.raises(kind) as caught:
        ask(agent, *(contents or ("echo",)), **fields)
    assert caught.value.body.keys() == {"message", "type", "param", "code"}
    return caught.value


def test_the_agent_is_the_only_model(agent):
    client = sdk(agent)
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("support", "model", "agentservice")
    assert client.models.retrieve("support").id == "support"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-4o")
    assert missing.value.code == "model_not_found"
    assert "'support'" in missing.value.body["message"]


def test_a_run_is_a_completion_with_its_usage_and_its_run_id(agent, wait_until):
    answer = ask(agent, "echo")
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "You said: echo")
    assert choice.finish_reason == "stop"
    assert choice.message.tool_calls is None
    assert (answer.model, answer.object) == ("support", "chat.completion")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (20, 8, 28)
    (line,) = wait_until(lambda: [x for x in agent.lines("run") if x["run_id"] == answer.id])
    assert (line["category"], line["caller"], line["input_tokens"]) == ("success", "web", 20)
    raw = sdk(agent).chat.completions.with_raw_response.create(
        model="support", messages=[{"role": "user", "content": "echo"}]
    )
    assert raw.headers["x-run-id"] == raw.parse().id


def test_a_stream_is_chunks_with_usage_only_where_it_is_asked_for(agent):
    chunks = list(ask(agent, "echo", stream=True))
    assert text_of(chunks) == "word0 word1 word2 word3 "
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * 4 + ["stop"]
    assert [c.usage for c in chunks] == [None] * 5
    assert len({c.id for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    *_, last = ask(agent, "echo", stream=True, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens) == ([], 28)


def test_messages_before_the_last_are_the_runs_history_and_the_agents_instructions_stay(agent, provider):
    provider.forget()
    messages = [
        {"role": "system", "content": "echo: be a pirate"},
        {"role": "user", "content": [{"type": "text", "text": "My name "}, {"type": "text", "text": "is Ada."}]},
        {"role": "assistant", "content": "Hello Ada!"},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "What is my name?", "name": "ada"},
    ]
    answer = sdk(agent).chat.completions.create(model="support", messages=messages)
    assert answer.choices[0].message.content == "You said: What is my name?"
    (body,) = provider.state()["bodies"]
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "Answer briefly."),
        ("user", "echo: be a pirate"),
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada!"),
        ("user", "Be kind."),
        ("user", "What is my name?"),
    ]


def test_the_system_prompt_of_an_own_agent_stays_too(embed, configuration, provider):
    code = {"mine.py": "from pydantic_ai import Agent\nagent = Agent(system_prompt='I am the owner.')\n"}
    agent = embed(configuration(agent={"entrypoint": "mine:agent"}), model="echo", code=code)
    provider.forget()
    ask(agent, "one", "two", "three")
    (body,) = provider.state()["bodies"]
    said = [(m["role"], m["content"]) for m in body["messages"]]
    assert said == [("system", "I am the owner."), ("user", "one"), ("assistant", "two"), ("user", "three")]


def test_tools_are_hidden_and_their_tokens_are_counted(launch, configuration):
    config = configuration(agent={"instructions": "x", "tools": ["mine:lookup"]})
    agent = launch(config, model="tool", code=TOOL)
    answer = ask(agent, "x")
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 2 * 28
    chunks = list(ask(agent, "x", stream=True, stream_options={"include_usage": True}))
    assert text_of(chunks) == "word0 word1 word2 word3 "
    assert not any(c.choices and c.choices[0].delta.tool_calls for c in chunks)
    assert chunks[-1].usage.total_tokens == 2 * 28


def test_a_typed_agent_takes_json_and_answers_json(typed, provider):
    provider.forget()
    value = json.dumps({"customer_id": 7, "issue": "late"})
    answer = ask(typed, value)
    expected = {"response": "done", "suggested_actions": ["a", "b"], "escalated": True}
    assert json.loads(answer.choices[0].message.content) == expected
    chunks = list(ask(typed, "not what it takes", "sorry", value, "earlier", value, stream=True))
    assert json.loads(text_of(chunks)) == expected
    said = [m["content"] for m in provider.state()["bodies"][-1]["messages"][1:]]
    assert said == ["not what it takes", "sorry", "Customer 7: late", "earlier", "Customer 7: late"]
    assert ask(typed, value, response_format={"type": "json_object"}).choices


def test_a_typed_agent_says_what_it_takes_instead(typed, provider):
    provider.forget()
    told = refused(openai.BadRequestError, typed, "hello")
    assert (told.param, told.type) == ("messages[0].content", "invalid_request_error")
    assert "the agent's input as JSON" in told.body["message"]
    assert "input.customer_id" in refused(openai.BadRequestError, typed, '{"issue": "x"}').body["message"]
    assert provider.state()["requests"] == 0


FIELDS = [
    ({"n": 2}, "n"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logit_bias": {"1": 2}}, "logit_bias"),
    ({"stop": "x"}, "stop"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": "5"}, "max_completion_tokens"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": [1]}, "stream_options"),
    ({"extra_body": {"top_k": 5}}, "top_k"),
    ({"messages": []}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "tool_call_id": "1", "content": "x"}]}, "messages[0]"),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}
            ]
        },
        "messages[0].content",
    ),
]


@pytest.mark.parametrize(("fields", "param"), FIELDS, ids=[json.dumps(fields)[:50] for fields, _ in FIELDS])
def test_a_field_that_the_agent_cannot_obey_is_refused_by_name(agent, provider, fields, param):
    provider.forget()
    told = refused(openai.BadRequestError, agent, **fields)
    assert (told.status_code, told.param, told.type) == (400, param, "invalid_request_error")
    assert param in told.body["message"]
    assert provider.state()["requests"] == 0


def test_fields_that_only_tune_a_model_or_ask_for_nothing_pass_and_do_not_reach_it(agent, provider):
    provider.forget()
    tuning = {"temperature": 1.9, "top_p": 0.1, "seed": 7, "reasoning_effort": "high", "user": "u", "store": True}
    nothing = {
        "n": 1,
        "tools": [],
        "tool_choice": "auto",
        "stop": [],
        "logprobs": False,
        "response_format": {"type": "text"},
    }
    nulls = {"max_tokens": None, "stream": None, "stream_options": None, "logit_bias": None, "audio": None}
    assert ask(agent, "echo", **tuning, **nothing, **nulls).choices
    (body,) = provider.state()["bodies"]
    assert body.keys() <= {"model", "messages", "stream", "max_completion_tokens"}


def test_a_cap_of_tokens_lowers_the_agents_and_never_raises_it(embed, configuration, provider):
    settings = {"settings": {"maxTokens": 100}}
    agent = embed(configuration(model=settings), model="cut")
    provider.forget()
    assert ask(agent, "x", max_tokens=7).choices[0].finish_reason == "length"
    chunks = list(ask(agent, "x", max_completion_tokens=5_000, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert ask(agent, "x").choices
    assert [b["max_completion_tokens"] for b in provider.state()["bodies"]] == [7, 100, 100]


def test_a_fallback_keeps_the_callers_cap(embed, configuration, provider):
    fallback = provider.serving("echo", settings={"maxTokens": 50})
    del fallback["retry"]
    agent = embed(configuration(model={"settings": {"maxTokens": 100}, "fallbacks": [fallback]}), model="503")
    provider.forget()
    assert ask(agent, "x", max_tokens=7).choices
    assert ask(agent, "x").choices
    assert [b["max_completion_tokens"] for b in provider.state()["bodies"]] == [7, 7, 100, 50]


def test_only_the_agents_name_is_its_model(agent):
    told = refused(openai.NotFoundError, agent, model="gpt-4o")
    assert (told.code, told.param) == ("model_not_found", "model")


def test_only_holders_of_a_token_may_ask(agent):
    client = sdk(agent, token="wrong")
    for call in (client.models.list, lambda: ask(agent, "echo", client=client)):
        with pytest.raises(openai.AuthenticationError) as told:
            call()
        assert told.value.code == "invalid_api_key"
        assert told.value.response.headers["www-authenticate"].startswith("Bearer")


def test_a_body_that_is_no_request_is_an_error_of_openais_shape(agent):
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}

    def post(content, **more):
        answer = agent.client.post("/v1/chat/completions", content=content, headers={**headers, **more})
        return answer.status_code, answer.json()["error"]["type"]

    assert post(b"{") == (400, "invalid_request_error")
    assert post(b"[]") == (400, "invalid_request_error")
    assert post(b"x" * 5_000_000) == (413, "invalid_request_error")
    assert post(b"{}", **{"content-type": "text/plain"}) == (415, "invalid_request_error")
    assert agent.client.get("/v1/chat/completions").json()["error"]["type"] == "invalid_request_error"


FAILURES = [
    ("429", openai.RateLimitError, 429, "rate_limit_exceeded"),
    ("quota", openai.InternalServerError, 502, "external_service"),
    ("500", openai.InternalServerError, 502, "external_service"),
    ("503", openai.InternalServerError, 503, "external_service"),
    ("401", openai.InternalServerError, 502, "external_service"),
    ("400", openai.BadRequestError, 400, None),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("command", "kind", "status", "code"), FAILURES, ids=[f[0] for f in FAILURES])
def test_a_failure_of_the_model_has_its_status_streamed_or_not(agent, command, kind, status, code, stream):
    told = refused(kind, agent, command, stream=stream)
    assert (told.status_code, told.code) == (status, code)
    assert told.response.headers["x-run-id"]
    assert "canary" not in told.response.text
    if command == "429":
        assert told.response.headers["retry-after"] == "7"


def test_a_stream_that_breaks_ends_with_an_error_that_the_sdk_raises(agent):
    told = []
    with pytest.raises(openai.APIError) as broken:
        for chunk in ask(agent, "break", stream=True):
            told.append(chunk)
    assert text_of(told).startswith("word0")
    assert broken.value.body["code"] == "rate_limit_exceeded"
    assert "canary" not in json.dumps(broken.value.body)


def test_the_sdk_repeats_what_may_pass_and_nothing_else(agent, provider):
    def asked(command, **fields):
        provider.forget()
        with pytest.raises(openai.APIStatusError):
            ask(agent, command, client=sdk(agent, retries=2), **fields)
        return provider.state()["requests"]

    assert asked("401") == 1
    assert asked("401", stream=True) == 1
    assert asked("quota") == 1
    assert asked("503") == 3


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_budget_that_is_used_up_is_a_quota_that_is_not_asked_again(
    embed, configuration, provider, tmp_path, monkeypatch, stream
):
    monkeypatch.setenv("AGENTSERVICE_LEDGER", str(tmp_path / "ledger.sqlite"))
    terms = {"enforcement": "Hard", "windows": [{"name": "daily", "tokens": 100}], "prices": []}
    agent = embed(configuration(budget={"ledger": "SQLite", "terms": terms}), model="echo")
    provider.forget()
    told = refused(openai.RateLimitError, agent, "hello", client=sdk(agent, retries=2), stream=stream)
    assert (told.code, told.type) == ("insufficient_quota", "insufficient_quota")
    assert 0 < int(told.response.headers["retry-after"]) <= 86_400
    assert told.response.headers["x-should-retry"] == "false"
    assert provider.state()["requests"] == 0
    metrics = agent.client.get("/metrics").text
    assert re.search(r'requests_total\{agent_name="support",status="budget"\} 1.0', metrics), "it was sent once"


@pytest.mark.parametrize("command", ["hang", "stream-100-100"])
def test_a_client_that_hangs_up_stops_its_run(launch, configuration, provider, wait_until, command):
    agent = launch(configuration(serving={"concurrencyPerPod": 1, "drainTimeoutSeconds": 10}), model=command)
    before, under_way = provider.state()["cancelled"], provider.state()["open"]
    if command == "hang":
        # nothing is ever said, so the client must be one that does not wait
        body = json.dumps({"model": "support", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", agent.port)) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: provider.state()["open"] > under_way, what="the request to the provider")
    else:
        with ask(agent, "x", stream=True) as stream:
            next(iter(stream))
    wait_until(lambda: provider.state()["cancelled"] > before, what="the end of the request to the provider")
    (line,) = wait_until(lambda: agent.lines("run"), what="the line of the run")
    assert line["category"] == "cancelled"
    wait_until(lambda: 'active_requests{agent_name="support"} 0.0' in agent.client.get("/metrics").text)


def test_a_full_pod_and_a_pod_that_stops_answer_as_openai_does(launch, configuration, provider, wait_until):
    agent = launch(configuration(serving={"concurrencyPerPod": 2, "drainTimeoutSeconds": 10}), model="as-asked")
    before = provider.state()["open"]
    told = {}

    def call(command, **fields):
        try:
            list(ask(agent, command, **fields))
        except openai.APIError as error:
            told[command] = error

    threads = [
        threading.Thread(target=call, args=("hang",)),
        threading.Thread(target=call, args=("stream-600-100",), kwargs={"stream": True}),
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: provider.state()["open"] > before + 1, what="both requests to the provider")
    full = refused(openai.InternalServerError, agent, "echo")
    assert (full.status_code, full.code, full.response.headers["retry-after"]) == (503, "overloaded", "1")
    agent.signal()
    for thread in threads:
        thread.join(60)
    assert agent.exit_code(60) == 0
    assert (told["hang"].status_code, told["hang"].code) == (503, "overloaded")
    assert told["stream-600-100"].code == "overloaded", "the stream had begun, so its last event says so"


def test_the_examples_of_the_page_run(launch, configuration):
    agent = launch({**configuration(), "name": "hello"})
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    shells = [code for kind, code in blocks if kind == "sh"]
    programs = [code for kind, code in blocks if kind == "python"]
    assert shells
    assert programs
    environ = {**os.environ, "no_proxy": "*"}
    heard = ""
    for code in shells:
        command = ["bash", "-euc", code.replace("localhost:8000", f"127.0.0.1:{agent.port}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stderr
        heard += done.stdout
    assert '"id":"hello"' in heard
    assert "How are you?" in heard
    assert '"type":"RUN_FINISHED"' in heard
    assert '"protocolVersion":"1.0"' in heard
    assert '"role":"ROLE_AGENT"' in heard
    for code in programs:
        program = code.replace("localhost:8000", f"127.0.0.1:{agent.port}")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stderr
        assert "What is my name?" in done.stdout
        assert re.search(r"^\d+ tokens$", done.stdout, re.MULTILINE)
