"""The platform's defaults lie below what an agent says, and a wrong one is told to the platform."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agentservice_api.defaults import DefaultsError, apply_defaults, defaults_json_schema, defaults_problems

SPEC: dict[str, Any] = {"agent": {"instructions": "x"}, "model": {"name": "test"}}
DEFAULTS: dict[str, Any] = {
    "auth": {"type": "BearerToken"},
    "runtime": {
        "image": "registry.example.com/runtime:1",
        "podLabels": {"team": "platform", "cost": "shared"},
        "env": [{"name": "HTTP_PROXY", "value": "http://proxy:3128"}],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
        "affinity": {"nodeAffinity": {"anything": {}}},
    },
    "rollout": {"maxSurge": 1},
    "network": {"service": {"annotations": {"example.com/a": "b"}}},
    "observability": {"environment": "staging"},
}


def test_what_the_agent_leaves_out_comes_from_the_platform() -> None:
    assert apply_defaults(SPEC, DEFAULTS) == {**DEFAULTS, **SPEC}


def test_the_agents_own_value_wins_maps_are_merged_and_lists_replaced() -> None:
    own = {
        **SPEC,
        "runtime": {
            "podLabels": {"team": "a"},
            "env": [{"name": "A", "value": "b"}],
            "resources": {"requests": {"cpu": "2"}},
        },
        "observability": {"environment": "production"},
    }
    merged = apply_defaults(own, DEFAULTS)
    assert merged["runtime"]["podLabels"] == {"team": "a", "cost": "shared"}
    assert merged["runtime"]["env"] == [{"name": "A", "value": "b"}]
    assert merged["runtime"]["resources"] == {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}
    assert merged["observability"] == {"environment": "production"}


def test_an_empty_list_and_a_zero_are_values_of_the_agent() -> None:
    own = {**SPEC, "runtime": {"env": []}, "rollout": {"maxSurge": 0}}
    merged = apply_defaults(own, DEFAULTS)
    assert merged["runtime"]["env"] == []
    assert merged["rollout"]["maxSurge"] == 0


def test_neither_argument_is_changed_or_shared() -> None:
    merged = apply_defaults(SPEC, DEFAULTS)
    merged["runtime"]["podLabels"]["team"] = "changed"
    merged["agent"]["instructions"] = "changed"
    assert DEFAULTS["runtime"]["podLabels"]["team"] == "platform"
    assert SPEC["agent"]["instructions"] == "x"


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"agent": {"instructions": "y"}}, "agentDefaults.agent: "),
        ({"model": {"name": "test"}}, "agentDefaults.model: "),
        ({"replicas": 2}, "agentDefaults.replicas: "),
        (
            {"runtime": {"imag": "x"}},
            "agentDefaults.runtime.imag: is unknown or belongs to each agent alone: did you mean image?",
        ),
        ({"auth": {"tokens": []}}, "agentDefaults.auth.tokens: "),
        ({"runtime": {"env": [{"nme": "A"}]}}, "agentDefaults.runtime.env[0].nme: "),
        ({"runtime": {"concurrencyPerPod": 0}}, "agentDefaults.runtime.concurrencyPerPod: "),
        ({"observability": {"logLevel": "loud"}}, "agentDefaults.observability.logLevel: "),
        ({"runtime": "big"}, "agentDefaults.runtime: "),
    ],
)
def test_an_unknown_forbidden_or_wrong_default_is_an_error_that_names_it(defaults: dict[str, Any], said: str) -> None:
    with pytest.raises(DefaultsError) as error:
        apply_defaults(SPEC, defaults)
    assert said in str(error.value)
    assert defaults_problems(defaults)


def test_the_charts_schema_takes_what_we_take() -> None:
    schema = defaults_json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({})
    assert validator.is_valid(DEFAULTS)


@pytest.mark.parametrize(
    "defaults",
    [
        {"model": {}},
        {"runtime": {"imag": "x"}},
        {"runtime": {"env": [{"name": "A-B"}]}},
        {"rollout": {"maxSurge": 1.5}},
        {"observability": {"logLevel": "loud"}},
    ],
)
def test_the_charts_schema_catches_typos_before_anything_is_installed(defaults: dict[str, Any]) -> None:
    assert not Draft202012Validator(defaults_json_schema()).is_valid(defaults)
