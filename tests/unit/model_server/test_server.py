"""The stand-in as its callers see it, over HTTP in this process."""

import json

import pytest
from server import BrokenError, create_app
from starlette.testclient import TestClient


@pytest.fixture
def client():
    return TestClient(create_app(), raise_server_exceptions=True)


def ask(client, *, model="stand-in", stream=False, **members):
    body = {"model": model, "messages": [{"role": "user", "content": "Hello there"}], "stream": stream, **members}
    return client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer a-key"})


def events(response):
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]


def test_an_answer_carries_its_usage(client):
    answer = ask(client).json()
    assert answer["choices"][0]["message"]["content"] == "You asked: Hello there"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_a_stream_says_the_same_in_pieces_and_ends_with_the_usage(client):
    response = ask(client, stream=True, stream_options={"include_usage": True})
    told = events(response)
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in told[:-1]) == "You asked: Hello there"
    assert told[-1]["usage"] == ask(client).json()["usage"]
    assert response.text.endswith("data: [DONE]\n\n")


def test_a_stream_without_the_option_tells_no_usage(client):
    assert all(not event.get("usage") for event in events(ask(client, stream=True)))


def test_the_arguments_of_a_streamed_tool_call_join_to_json(client):
    tool = {
        "type": "function",
        "function": {"name": "final_result", "parameters": {"type": "object", "required": ["answer"]}},
    }
    deltas = [e["choices"][0]["delta"] for e in events(ask(client, stream=True, tools=[tool]))]
    pieces = [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", [])]
    assert json.loads("".join(pieces)) == {"answer": ""}


@pytest.mark.parametrize("model", ["400", "400-context", "401", "402", "404", "429", "500", "503"])
def test_an_error_is_given_on_command(client, model):
    response = ask(client, model=model)
    assert response.status_code == int(model[:3])
    assert response.json()["error"]["message"]


def test_a_rate_limit_says_when_to_come_back(client):
    assert ask(client, model="429").headers["retry-after"] == "2"


def test_the_first_requests_fail_on_command(client):
    assert [ask(client, model="503-first-2").status_code for _ in range(3)] == [503, 503, 200]


def test_an_answer_becomes_valid_after_the_first_ones_on_command(client):
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answers = [
        ask(client, model="invalid-first-1", response_format=wanted).json()["choices"][0]["message"]["content"]
        for _ in range(2)
    ]
    assert answers == ["{}", '{"a": 1}']


def test_a_stream_of_asked_length(client):
    told = "".join(
        e["choices"][0]["delta"].get("content") or "" for e in events(ask(client, model="stream-5-0", stream=True))
    )
    assert told.split() == ["word0", "word1", "word2", "word3", "word4"]


def test_a_stream_repeats_the_answer_that_the_instructions_dictate(client):
    told = [{"role": "system", "content": 'Answer "v2".'}, {"role": "user", "content": "hello"}]
    answer = ask(client, model="stream-3-0", messages=told).json()["choices"][0]["message"]["content"]
    assert answer.split() == ["v2", "v2", "v2"]


def test_a_stream_breaks_on_command(client):
    with pytest.raises(BrokenError):
        ask(client, model="break-drop", stream=True)
    assert events(ask(client, model="break-error", stream=True))[-1]["error"]["code"] == "rate_limit_exceeded"


def test_a_body_that_is_no_request_is_refused(client):
    for body in (b"nonsense", b"[]", b"{}"):
        assert client.post("/v1/chat/completions", content=body).status_code == 400


def test_the_state_counts_without_keeping_keys(client):
    ask(client)
    ask(client, model="500")
    state = client.get("/state").json()
    assert state["requests"] == 2
    assert state["models"] == {"stand-in": 1, "500": 1}
    assert state["in_flight"] == 0
    assert state["prompt_tokens"] > 0
    assert list(state["keys"].values()) == [2]
    assert "a-key" not in json.dumps(state)


def test_what_is_answered_is_billed_by_model(client):
    usages = [ask(client, model=model).json()["usage"] for model in ("one", "two", "two")]
    ask(client, model="500")
    billed = client.get("/state").json()["billed"]
    assert billed == {
        "one": {"requests": 1, **usages[0]},
        "two": {"requests": 2, **{name: 2 * number for name, number in usages[1].items()}},
    }


def test_an_answer_ends_at_its_cap(client):
    answer = ask(client, max_completion_tokens=2).json()
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["choices"][0]["message"]["content"] == "You aske"
    assert answer["choices"][0]["finish_reason"] == "length"


def test_more_is_billed_than_was_answered_on_command(client):
    honest, greedy = (ask(client, model=model, max_tokens=2).json()["usage"] for model in ("any", "overbills-1000"))
    assert greedy == {**honest, "completion_tokens": 1002, "total_tokens": honest["prompt_tokens"] + 1002}


def test_a_tool_call_is_cut_at_its_cap(client):
    tool = {
        "type": "function",
        "function": {"name": "final_result", "parameters": {"type": "object", "required": ["answer"]}},
    }
    answer = ask(client, tools=[tool], max_tokens=4).json()
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"an'
    assert answer["usage"]["completion_tokens"] == 4


def test_eight_answers_cost_eight_times(client):
    one, eight = ask(client).json(), ask(client, n=8).json()
    assert len(eight["choices"]) == 8
    assert eight["usage"]["completion_tokens"] == 8 * one["usage"]["completion_tokens"]


def test_other_keys_are_refused_when_the_accepted_ones_are_named():
    assert ask(TestClient(create_app(keys=frozenset({"another"})))).status_code == 401
    assert ask(TestClient(create_app(keys=frozenset({"a-key"})))).status_code == 200


def test_models_are_listed(client):
    assert "stand-in" in [model["id"] for model in client.get("/v1/models").json()["data"]]
