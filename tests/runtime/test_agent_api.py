"""What the agent API answers, to good requests and to bad ones."""

from __future__ import annotations

import re

import pytest

INPUT = {
    "schema": {
        "type": "object",
        "required": ["customer_id", "issue"],
        "additionalProperties": False,
        "properties": {
            "customer_id": {"type": "integer"},
            "issue": {"type": "string", "maxLength": 100},
            "priority": {"enum": ["normal", "high", "critical"], "default": "normal"},
            "where": {"type": "object", "properties": {"city": {"type": "string", "default": "Berlin"}}, "default": {}},
        },
    },
    "promptTemplate": "Customer {customer_id} ({priority}) {{x}} {where}: {issue}",
}
OUTPUT = {
    "type": "object",
    "required": ["response", "suggested_actions", "escalated"],
    "properties": {
        "response": {"type": "string"},
        "suggested_actions": {"type": "array", "items": {"type": "string"}},
        "escalated": {"type": "boolean"},
    },
}


@pytest.fixture(scope="module")
def plain(embed_shared):
    return embed_shared()


@pytest.fixture(scope="module")
def typed(embed_shared, configuration):
    agent = {"instructions": "Help.", "input": INPUT, "outputSchema": OUTPUT}
    return embed_shared(configuration(agent=agent), model="echo")


def problem(response, status, category):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["category"] == category
    assert {"type", "title", "detail", "retryable", "retry_after", "run_id"} <= body.keys()
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    return body


def test_a_run_answers_output_usage_cost_and_model(plain):
    answer = plain.run("Hello?")
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"run_id", "output", "usage", "cost_usd", "model"}
    assert "Hello?" in body["output"]
    assert body["usage"].keys() == {"input_tokens", "output_tokens", "total_tokens", "requests"}
    assert body["usage"]["requests"] == 1
    assert body["cost_usd"] == "0"
    assert body["model"] == "test"
    assert body["run_id"] == answer.headers["x-run-id"]


def test_braces_quotes_and_emoji_reach_the_model_unchanged(embed, configuration, provider):
    provider.forget()
    text = "Say {{x}}, {}, {customer_id.__class__}, \"quotes\", 'single', #{{#if}} and 🦜."
    agent = embed(configuration(agent={"instructions": text}), model="echo")
    asked = '{{x}} {} {a.b} "q" 🦜'
    assert agent.run(asked).json()["output"] == f"You said: {asked}"
    assert provider.state()["bodies"][-1]["messages"][0]["content"] == text


def test_a_typed_request_is_completed_and_templated(typed, provider):
    provider.forget()
    answer = typed.run({"customer_id": 7, "issue": "{priority} {{y}} broken"})
    assert answer.json()["output"] == {"response": "done", "suggested_actions": ["a", "b"], "escalated": True}
    message = provider.state()["bodies"][-1]["messages"][-1]["content"]
    assert message == 'Customer 7 (normal) {x} {"city":"Berlin"}: {priority} {{y}} broken'


def test_a_wrong_input_is_refused_by_field_before_the_model_is_asked(typed, provider):
    provider.forget()
    for value, path in (
        ({"customer_id": "7", "issue": "x"}, "input.customer_id"),
        ({"customer_id": 7}, "input.issue"),
        ({"customer_id": 7, "issue": "x", "priority": "urgent"}, "input.priority"),
        ({"customer_id": 7, "issue": "x", "where": {"city": 1}}, "input.where.city"),
        ({"customer_id": 7, "issue": "x" * 101}, "input.issue"),
        ({"customer_id": 7, "issue": "x", "more": 1}, "input.more"),
        ("text", "input"),
        (None, "input"),
    ):
        body = problem(typed.run(value), 422, "validation")
        assert path in [e["path"] for e in body["errors"]]
        assert path in body["detail"]
    assert provider.state()["requests"] == 0


def test_the_test_model_satisfies_an_output_schema(embed, configuration):
    agent = embed(configuration(agent={"instructions": "Help.", "outputSchema": OUTPUT}))
    output = agent.run("x").json()["output"]
    assert isinstance(output["response"], str)
    assert isinstance(output["escalated"], bool)


def test_bad_requests_are_problems_and_the_server_serves_on(plain):
    agent = plain
    json_type = {"content-type": "application/json"}

    def post(content, headers=json_type):
        return agent.client.post("/v1/run", content=content, headers=headers)

    problem(post(b"{not json"), 400, "validation")
    problem(post(b""), 400, "validation")
    problem(post(b'{"input": "\xff"}'), 400, "validation")
    problem(post(b'{"input": NaN}'), 400, "validation")
    problem(post(b'{"input": ' + b"[" * 10000 + b"]" * 10000 + b"}"), 400, "validation")
    problem(post(b'{"input": ' + b"[" * 500 + b"]" * 500 + b"}"), 400, "validation")
    problem(post(b'{"a":' * 10000 + b"1" + b"}" * 10000), 400, "validation")
    problem(post(b'{"input": "' + b"x" * 5_000_000 + b'"}'), 413, "validation")
    problem(post(iter([b'{"input": "', *[b"x" * 100_000] * 50, b'"}'])), 413, "validation")
    problem(post(b'{"input": "x"}', {"content-type": "text/plain"}), 415, "validation")
    problem(post(b"x", {"content-type": "application/json", "content-encoding": "gzip"}), 415, "validation")
    problem(post(b"[]"), 422, "validation")
    problem(post(b'"text"'), 422, "validation")
    problem(post(b"{}"), 422, "validation")
    problem(post(b'{"input": 1}'), 422, "validation")
    problem(post(b'{"input": ""}'), 422, "validation")
    body = problem(post(b'{"input": "x", "model": "other"}'), 422, "validation")
    assert body["errors"] == [{"path": "model", "message": "is no field of this request: remove it"}]
    problem(agent.client.get("/v1/run"), 405, "validation")
    problem(agent.client.get("/nothing"), 404, "validation")
    problem(agent.client.post("/v1/stream", content=b"{", headers=json_type), 400, "validation")
    assert agent.run("x").status_code == 200
    assert agent.client.get("/ready").status_code == 200


def test_docs_show_this_agents_schemas_and_need_no_other_server(typed):
    agent = typed
    document = agent.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["Input"]["properties"]["customer_id"] == {"type": "integer"}
    assert schemas["Output"]["required"] == OUTPUT["required"]
    page = agent.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "customer_id" in page.text
    assert "suggested_actions" in page.text
    for path in document["paths"]:
        assert path in page.text
    assert {
        "/v1/run",
        "/v1/stream",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/runs/{run_id}",
        "/v1/ag-ui",
    } <= document["paths"].keys()
    assert not re.search(r"(src|href)=\"?(https?:)?//", page.text)
    assert "/v1/run" in agent.client.get("/").text


def test_one_line_tells_of_a_run_and_nothing_of_its_content(embed, wait_until):
    agent = embed()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = agent.run("the-prompt", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}).json()
    (line,) = wait_until(lambda: [x for x in agent.lines("run") if x["run_id"] == answer["run_id"]])
    assert line["trace_id"] == trace
    assert line["agent"] == "support"
    assert line["revision"] == "5f2c9d1a"
    assert line["model"] == "test"
    assert line["category"] == "success"
    assert line["cost_usd"] == "0"
    assert line["input_tokens"] == answer["usage"]["input_tokens"]
    assert line["duration_seconds"] >= 0
    assert "caller" in line
    assert "the-prompt" not in agent.stdout() + agent.stderr()


def test_a_slow_run_is_a_warning(embed, configuration, wait_until):
    agent = embed(configuration(observability={"slowRunSeconds": 1}), model="slow-1200")
    agent.run("x")
    (line,) = wait_until(lambda: agent.lines("slow run"))
    assert line["level"] == "warning"
