"""What a caller is told when the model's provider fails, and what is told to nobody."""

from __future__ import annotations

import pytest

KEY = {"apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}


@pytest.fixture(scope="module")
def failing(embed_shared, configuration):
    config = configuration(
        agent={"instructions": "x", "limits": {"runTimeoutSeconds": 2}},
        model={"name": "x", **KEY},
    )
    return embed_shared(config, model="as-asked", secrets={"openai/api-key": "sk-canary-key-0123456789"})


@pytest.mark.parametrize(
    ("command", "status", "category", "retryable", "retry_after"),
    [
        ("429", 429, "rate_limit", True, 7),
        ("429-bare", 429, "rate_limit", True, 1),
        ("quota", 502, "external_service", False, None),
        ("500", 502, "external_service", True, 1),
        ("503", 503, "external_service", True, 1),
        ("401", 502, "external_service", False, None),
        ("404", 502, "external_service", False, None),
        ("400", 422, "validation", False, None),
        ("context", 422, "validation", False, None),
        ("hang", 504, "timeout", False, None),
    ],
)
def test_each_failure_of_the_provider_has_its_category_and_shows_nothing_of_it(
    failing, provider, events, command, status, category, retryable, retry_after
):
    provider.forget()
    answer = failing.run(f"{command} the canary prompt")
    body = answer.json()
    assert answer.status_code == status
    assert (body["category"], body["retryable"], body["retry_after"]) == (category, retryable, retry_after)
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert provider.state()["requests"] == 1, "the SDK may not retry by itself"
    assert "sk-canary-key-0123456789" in provider.state()["keys"][0], "the canary was in danger"
    streamed = failing.client.post("/v1/stream", json={"input": f"{command} the canary prompt"})
    assert streamed.status_code == 200
    name, data = events(streamed.text)[-1]
    assert name == "error"
    assert data["category"] == category
    _no_canary(failing, answer, streamed)


def test_a_body_that_is_no_json_and_a_stream_that_breaks_show_nothing_either(failing, events):
    answer = failing.run("malformed the canary prompt")
    assert answer.status_code == 502
    streamed = failing.client.post("/v1/stream", json={"input": "break the canary prompt"})
    assert [name for name, _ in events(streamed.text)] == ["delta", "delta", "error"]
    assert events(streamed.text)[-1][1]["category"] == "rate_limit"
    _no_canary(failing, answer, streamed)


def _no_canary(agent, *answers):
    told = agent.stdout() + agent.stderr() + agent.client.get("/metrics").text
    told += "".join(answer.text + str(answer.headers) for answer in answers)
    for canary in ("sk-canary", "canary prompt", "failed for", "Traceback"):
        assert canary not in told


def test_a_provider_that_is_not_there_is_an_external_failure(embed, configuration):
    agent = embed(configuration(model={"name": "openai-chat:x", "baseURL": "http://127.0.0.1:9/v1"}))
    body = agent.run("x").json()
    assert (body["status"], body["category"], body["retryable"]) == (502, "external_service", True)


def test_a_run_that_takes_too_long_stops_the_request_to_the_provider(failing, provider, wait_until):
    before = provider.state()["cancelled"]
    body = failing.run("hang").json()
    assert (body["status"], body["category"]) == (504, "timeout")
    wait_until(lambda: provider.state()["cancelled"] > before, what="the end of the request to the provider")


def test_an_answer_that_never_fits_its_schema_is_refused_after_the_retries(embed, configuration, provider):
    schema = {"type": "object", "required": ["response"], "properties": {"response": {"type": "string"}}}
    agent = embed(configuration(agent={"instructions": "x", "outputSchema": schema}), model="invalid")
    provider.forget()
    body = agent.run("x").json()
    assert (body["status"], body["category"]) == (502, "validation")
    assert provider.state()["requests"] == 2


def test_an_answer_that_fits_after_a_retry_is_given(embed, configuration, provider):
    schema = {"type": "object", "required": ["response"], "properties": {"response": {"type": "string"}}}
    agent = embed(configuration(agent={"instructions": "x", "outputSchema": schema}), model="invalid-once")
    answer = agent.run("x")
    assert answer.status_code == 200
    assert answer.json()["output"]["response"] == "done"
    assert answer.json()["usage"]["requests"] == 2


def test_a_failing_tool_is_internal_and_its_message_is_nobodys(embed, configuration):
    code = {"mine.py": "def lookup(x: int) -> str:\n    raise KeyError('canary-in-exception')\n"}
    agent = embed(configuration(agent={"instructions": "x", "tools": ["mine:lookup"]}), model="tool", code=code)
    answer = agent.run("x")
    assert (answer.status_code, answer.json()["category"]) == (500, "internal")
    (line,) = agent.lines("run")
    assert line["error"][0] == "KeyError"
    assert any("mine.py:2 lookup" in place for place in line["at"])
    assert "canary-in-exception" not in answer.text + agent.stdout() + agent.stderr()
