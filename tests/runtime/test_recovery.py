"""Retries and fallbacks, as callers and providers see them."""

from __future__ import annotations

import httpx2
import pytest

KEY = {"apiKey": {"secretKeyRef": {"name": "second", "key": "api-key"}}}
TWICE = {"maxAttempts": 2, "backoffSeconds": 1}


def test_a_provider_that_fails_at_first_is_asked_again_and_the_caller_sees_nothing_of_it(
    embed, configuration, provider, events
):
    agent = embed(configuration(model={"retry": TWICE}), model="flaky-1-503")
    provider.forget()
    answer = agent.run("hello")
    assert (answer.status_code, answer.json()["output"]) == (200, "You said: hello")
    assert provider.state()["requests"] == 2
    streamed = agent.client.post("/v1/stream", json={"input": "hello again"})
    assert [name for name, _ in events(streamed.text)][-1] == "result"
    assert provider.state()["requests"] == 4
    series = 'agentservice_model_retries_total{agent_name="support",category="external_service",model='
    assert f'{series}"openai-chat:flaky-1-503"}} 2.0' in agent.client.get("/metrics").text


def test_a_fallback_answers_with_its_own_key_and_settings_and_is_named(embed, configuration, provider):
    second = provider.serving("second", settings={"maxTokens": 77}, **KEY)
    del second["retry"]
    model = {"retry": {"maxAttempts": 1}, "settings": {"temperature": "0.5"}, "fallbacks": [second]}
    agent = embed(configuration(model=model), model="503", secrets={"second/api-key": "sk-second"})
    provider.forget()
    answer = agent.run("hello").json()
    assert (answer["output"], answer["model"]) == ("You said: hello", "openai-chat:second")
    state = provider.state()
    assert state["keys"][1] == "Bearer sk-second"
    assert "temperature" not in state["bodies"][1]
    assert state["bodies"][1]["max_completion_tokens"] == 77
    (line,) = agent.lines("run")
    assert line["model"] == "openai-chat:second"


def test_a_key_that_is_refused_is_told_and_no_fallback_hides_it(embed, configuration, provider):
    model = {"retry": TWICE, "fallbacks": [{"name": "test"}]}
    agent = embed(configuration(model=model), model="401")
    provider.forget()
    body = agent.run("hello").json()
    assert (body["status"], body["title"]) == (502, "Refused by the model's provider")
    assert provider.state()["requests"] == 1


def test_a_rate_limit_that_lasts_is_told_with_the_providers_own_time(embed, configuration, provider):
    agent = embed(configuration(model={"retry": {**TWICE, "maxBackoffSeconds": 5}}), model="429")
    provider.forget()
    answer = agent.run("hello")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert provider.state()["requests"] == 1, "seven seconds are more than the longest pause"


def test_a_caller_who_hangs_up_during_a_pause_ends_the_run(embed, configuration, provider, wait_until):
    agent = embed(configuration(model={"retry": {"maxAttempts": 9, "backoffSeconds": 60}}), model="503")
    provider.forget()
    with pytest.raises(httpx2.TimeoutException):
        agent.run("hello", timeout=3)
    wait_until(lambda: agent.lines("run"), what="the run's line")
    assert agent.lines("run")[0]["category"] == "cancelled"
    assert provider.state()["requests"] == 1


def test_callers_read_the_words_of_the_specification_but_their_own_mistakes_in_ours(embed, configuration):
    messages = {"rate_limit": "We are busy, please try again in a moment.", "validation": "That did not work."}
    agent = embed(configuration(errors={"messages": messages}), model="429")
    assert agent.run("hello").json()["detail"] == "We are busy, please try again in a moment."
    assert agent.run("").json()["detail"] == "input must be a text that is not empty"
