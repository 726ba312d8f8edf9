"""When the stand-in calls tools, and when it answers."""

import json

from reply import decide, prompt_tokens, tokens_in

LOOKUP = {
    "type": "function",
    "function": {"name": "lookup", "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}}},
}
FINAL = {
    "type": "function",
    "function": {
        "name": "final_result",
        "parameters": {"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}},
    },
}


def request(*messages, **members):
    return {"model": "stand-in", "messages": list(messages), **members}


def test_tools_are_called_before_the_answer():
    reply = decide(request({"role": "user", "content": "order 12"}, tools=[FINAL, LOOKUP]))
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == [("lookup", {"id": 12})]


def test_a_tool_that_has_answered_is_not_called_again_and_its_answer_is_told():
    called = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "lookup", "arguments": "{}"}}]}
    answered = {"role": "tool", "tool_call_id": "1", "content": "shipped"}
    reply = decide(request({"role": "user", "content": "order 12"}, called, answered, tools=[FINAL, LOOKUP]))
    assert reply.tool_calls[0].name == "final_result"
    assert "shipped" in reply.tool_calls[0].arguments


def test_a_new_question_calls_the_tools_again():
    called = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "lookup", "arguments": "{}"}}]}
    again = decide(
        request({"role": "user", "content": "12"}, called, {"role": "user", "content": "and 13?"}, tools=[LOOKUP])
    )
    assert again.tool_calls[0].name == "lookup"


def test_no_tool_is_called_when_the_caller_forbids_it():
    assert decide(request({"role": "user", "content": "x"}, tools=[LOOKUP, FINAL], tool_choice="none")).tool_calls == ()


def test_a_response_format_is_answered_by_an_object_that_fits():
    schema = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}
    reply = decide(
        request(
            {"role": "user", "content": "critical"},
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
    )
    assert json.loads(reply.text) == {"ok": True}


def test_scripted_instructions_are_obeyed_to_the_letter():
    system = {"role": "system", "content": 'Be kind. Answer exactly "v2".'}
    assert decide(request(system, {"role": "user", "content": "hello"})).text == "v2"


def test_a_plain_question_is_repeated():
    assert decide(request({"role": "user", "content": [{"type": "text", "text": "why?"}]})).text == "You asked: why?"


def test_an_invalid_answer_lacks_its_members():
    reply = decide(request({"role": "user", "content": "x"}, tools=[FINAL]), valid=False)
    assert json.loads(reply.tool_calls[0].arguments) == {}


def test_four_bytes_are_one_token():
    assert [tokens_in(text) for text in ("", "a", "abcd", "abcde", "é" * 4)] == [0, 1, 1, 2, 2]
    assert prompt_tokens(request({"role": "user", "content": "x" * 400})) > 100
