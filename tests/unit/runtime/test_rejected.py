"""A configuration that cannot be used is refused before anything is served, by field and with the mend."""

from __future__ import annotations

import json

import pytest

from agentservice_api import RuntimeConfig
from agentservice_runtime.app import create_app
from agentservice_runtime.configuration import load
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles

BROKEN = {
    "no such module": ({"agent": {"entrypoint": "nowhere.at_all:agent"}}, "spec.agent.entrypoint", "nowhere"),
    "a module that fails": ({"agent": {"entrypoint": "broken:agent"}}, "spec.agent.entrypoint", "ZeroDivisionError"),
    "a missing attribute": ({"agent": {"entrypoint": "mine:other"}}, "spec.agent.entrypoint", "has no 'other'"),
    "no agent": ({"agent": {"entrypoint": "mine:number"}}, "spec.agent.entrypoint", "is a int"),
    "no tool": ({"agent": {"instructions": "x", "tools": ["mine:number"]}}, "spec.agent.tools[0]", "is a int"),
    "no deps": ({"agent": {"instructions": "x", "deps": "mine:number"}}, "spec.agent.deps", "is a int"),
    "a template with an attribute": (
        {
            "agent": {
                "instructions": "x",
                "input": {"schema": {"type": "object", "properties": {"a": {}}}, "promptTemplate": "{a.b}"},
            }
        },
        "spec.agent.input.promptTemplate",
        "{a.b}",
    ),
    "a schema that is none": (
        {
            "agent": {
                "instructions": "x",
                "input": {"schema": {"type": "object", "properties": {"a": {"type": "text"}}}},
            }
        },
        "spec.agent.input.schema",
        "properties.a.type",
    ),
    "a remote reference": (
        {
            "agent": {
                "instructions": "x",
                "outputSchema": {"type": "object", "properties": {"a": {"$ref": "http://x/y"}}},
            }
        },
        "spec.agent.outputSchema",
        "$ref",
    ),
    "a setting that is none": (
        {"agent": {"instructions": "x", "capabilities": [{"name": "Thinking", "settings": {"bogus": 1}}]}},
        "spec.agent.capabilities[0].settings",
        "bogus",
    ),
    "a capability smuggled in": (
        {
            "agent": {
                "instructions": "x",
                "capabilities": [{"name": "PrefixTools", "settings": {"prefix": "p", "capability": "LocalWorkspace"}}],
            }
        },
        "spec.agent.capabilities[0].settings.capability",
        "LocalWorkspace",
    ),
    "a provider that is none": ({"model": {"name": "nobody:x"}}, "spec.model.name", "nobody"),
    "a provider that is not installed": ({"model": {"name": "groq:x"}}, "spec.model.name", "groq"),
    "no model": ({"model": {"name": ""}}, "spec.model.name", "empty"),
    "a module that needs another": (
        {"agent": {"entrypoint": "needs:agent"}},
        "spec.agent.entrypoint",
        "nowhere_to_be_found",
    ),
    "an async factory": ({"agent": {"entrypoint": "mine:late"}}, "spec.agent.entrypoint", "coroutine function"),
    "a factory that fails": ({"agent": {"entrypoint": "mine:failing"}}, "spec.agent.entrypoint", "ValueError: no file"),
    "a bare generator as deps": (
        {"agent": {"instructions": "x", "deps": "mine:bare"}},
        "spec.agent.deps",
        "asynccontextmanager",
    ),
    "a base URL where there is none": (
        {"model": {"name": "deepseek:x", "baseURL": "http://x"}},
        "spec.model.baseURL",
        "openai-chat",
    ),
    "nobody may call": ({"auth": {"type": "BearerToken"}}, "spec.auth.tokens", "empty"),
    "an unknown version": ({"schemaVersion": 2}, "schemaVersion", ""),
    "an unknown field": ({"agent": {"instructions": "x", "budget": {}}}, "spec.agent.budget", "newer"),
}


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "needs.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "mine.py").write_text(
        "number = 1\nasync def late():\n    ...\ndef failing():\n    raise ValueError('no file')\nasync def bare():\n    yield 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_used_is_refused_by_field(tmp_path, code, case):
    parts, field, says = BROKEN[case]
    content = {
        "schemaVersion": 1,
        "name": "support",
        "namespace": "team-a",
        "agent": {"instructions": "x"},
        "model": {"name": "test"},
        "auth": {},
        "serving": {"concurrencyPerPod": 8, "drainTimeoutSeconds": 10},
        "observability": {},
        **parts,
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigurationRejected) as refused:
        create_app(load(file), secrets=SecretFiles(tmp_path))
    assert field in refused.value.field
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationRejected, match=r"nothing\.json cannot be read"):
        load(tmp_path / "nothing.json")


def test_a_configuration_as_the_operator_writes_it_is_known(tmp_path):
    config = RuntimeConfig.model_validate(
        {
            "name": "a",
            "namespace": "b",
            "agent": {
                "instructions": "x",
                "input": {"schema": {"type": "object", "properties": {"deep": {"type": "object"}}}},
                "mcpServers": [
                    {
                        "name": "m",
                        "url": "http://m",
                        "headers": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    }
                ],
                "capabilities": [{"name": "Thinking", "settings": {"effort": "low"}}],
                "limits": {"requestsPerRun": 3},
            },
            "model": {"name": "test", "settings": {"extra": {"anything": {"goes": 1}}}},
            "auth": {
                "type": "BearerToken",
                "tokens": [{"name": "t", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}}],
            },
            "serving": {"concurrencyPerPod": 8, "drainTimeoutSeconds": 10},
            "observability": {"slowRunSeconds": 1},
        }
    )
    file = tmp_path / "config.json"
    file.write_bytes(config.to_json())
    assert load(file) == config
