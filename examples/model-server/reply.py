"""Decides what the stand-in says to a chat completion request: a text, or calls of the tools that it was given."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from fill import fill

Message = dict[str, Any]
Tool = dict[str, Any]

SCRIPTED = re.compile(r"\b(?:answer|reply|respond|say)\b[^\"“\n]{0,40}[\"“]([^\"”\n]+)[\"”]", re.IGNORECASE)
"""Instructions such as `Answer "v2"` are obeyed to the letter: what a real model would mostly do, and a test can rely on."""
TOKEN_BYTES = 4
"""A token, counted the coarse way."""
OUTPUT_TOOL = "final_result"
"""The tools by which pydantic-ai asks for a structured answer begin with this name."""


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call that the model asks its caller to make; `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model says: a text, or calls of tools."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    is_cut: bool = False
    """Whether it ends at the cap of its tokens instead of where it was to end."""

    def within(self, cap: int | None) -> Reply:
        """Return what of it fits so many tokens: text, then calls, the last of which may end in the middle."""
        if cap is None or tokens_in(self.output_text) <= cap:
            return self
        left = cap * TOKEN_BYTES
        text, left = _cut(self.text, left)
        calls: list[ToolCall] = []
        for call in self.tool_calls:
            left -= len(call.name.encode())
            if left <= 0:
                break
            arguments, left = _cut(call.arguments, left)
            calls.append(ToolCall(name=call.name, arguments=arguments))
        return Reply(text=text, tool_calls=tuple(calls), is_cut=True)

    @property
    def output_text(self) -> str:
        """Everything that counts as output."""
        return self.text + "".join(call.name + call.arguments for call in self.tool_calls)


def decide(body: dict[str, Any], *, valid: bool = True) -> Reply:
    """Answer ``body``, the request of a chat completion.

    Tools are called once each before the answer; the answer is a call of an output tool, an object that fits
    `response_format`, or a text. With ``valid`` false a structured answer breaks its schema: its members are missing.
    """
    messages: list[Message] = body.get("messages", [])
    tools: list[Tool] = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
    prompt, facts = last_prompt(messages), tool_answers(messages)
    forced = _forced_tool(body.get("tool_choice"))
    outputs = [tool for tool in tools if tool["name"].startswith(OUTPUT_TOOL)]
    if forced is not None or body.get("tool_choice") == "none":
        outputs = [tool for tool in tools if tool["name"] == forced]
    else:
        waiting = [tool for tool in tools if tool not in outputs and tool["name"] not in _called(messages)]
        if waiting:
            return Reply(tool_calls=tuple(_call(tool, prompt=prompt, facts=facts) for tool in waiting))
    if outputs:
        return Reply(tool_calls=(_call(outputs[0], prompt=prompt, facts=facts, valid=valid),))
    schema = _response_schema(body.get("response_format"))
    if schema is not None:
        return Reply(text=json.dumps(fill(schema, prompt=prompt, facts=facts) if valid else {}))
    dictated = dictation(messages)
    if dictated is not None:
        return Reply(text=dictated)
    return Reply(text=f"You asked: {prompt}" + (f" Found: {facts}" if facts else ""))


def instructions(messages: list[Message]) -> str:
    """Return what the system told the model."""
    return "\n".join(text_of(message) for message in messages if message.get("role") in {"system", "developer"})


def dictation(messages: list[Message]) -> str | None:
    """Return the answer that the instructions dictate."""
    found = SCRIPTED.search(instructions(messages))
    return found[1] if found else None


def last_prompt(messages: list[Message]) -> str:
    """Return the last message of the user."""
    return next((text_of(message) for message in reversed(messages) if message.get("role") == "user"), "")


def tool_answers(messages: list[Message]) -> str:
    """Return what tools have answered since the user's last message."""
    return "; ".join(text_of(message) for message in _since_prompt(messages) if message.get("role") == "tool")


def text_of(message: Message) -> str:
    """Return a message's text, whether it is one string or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content if isinstance(content, str) else ""


def tokens_in(text: str) -> int:
    """Count tokens the coarse way: four bytes are one."""
    return -(-len(text.encode()) // TOKEN_BYTES)


def output_cap(body: dict[str, Any]) -> int | None:
    """Return how many tokens an answer may have, None when the request does not say."""
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    return int(cap) if cap else None


def prompt_tokens(body: dict[str, Any]) -> int:
    """Count what a request sends: its messages and the schemas of its tools."""
    sent = json.dumps(
        [body.get("messages", []), body.get("tools", []), body.get("response_format")], ensure_ascii=False
    )
    return tokens_in(sent)


def _cut(text: str, most: int) -> tuple[str, int]:
    """Return what of the text fits so many bytes, and how many are left."""
    kept = text.encode()[:most].decode(errors="ignore")
    return kept, most - len(kept.encode())


def _since_prompt(messages: list[Message]) -> list[Message]:
    last = max((index for index, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    return messages[last + 1 :]


def _called(messages: list[Message]) -> set[str]:
    return {call["function"]["name"] for message in _since_prompt(messages) for call in message.get("tool_calls") or []}


def _forced_tool(choice: Any) -> str | None:
    return choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None


def _call(tool: Tool, *, prompt: str, facts: str, valid: bool = True) -> ToolCall:
    schema = tool.get("parameters") or {"type": "object"}
    return ToolCall(name=tool["name"], arguments=json.dumps(fill(schema, prompt=prompt, facts=facts) if valid else {}))


def _response_schema(response_format: Any) -> dict[str, Any] | None:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_object"}:
            return {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        case _:
            return None
