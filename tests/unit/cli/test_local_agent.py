"""What a local run serves: where values come from, and what it says when they are missing."""

import base64
from pathlib import Path
from typing import Any

import pytest

from agentservice_api import AgentService
from agentservice_api.spec import LogFormat
from agentservice_cli.exits import CliError
from agentservice_cli.local.agent import local_agent, parse_agent, secret_references
from agentservice_cli.local.sources import Sources, read_sources
from agentservice_cli.manifests import Document, Manifests

CANARY = "sk-canary-4711"


def agent(**spec: Any) -> AgentService:
    whole = {"agent": {"instructions": "hi"}, "model": {"name": "test"}, **spec}
    return AgentService.model_validate({"metadata": {"name": "hello", "namespace": "team-a"}, "spec": whole})


def documents(*contents: dict[str, Any]) -> Manifests:
    return Manifests(documents=tuple(Document(f"a.yaml:{i}", c) for i, c in enumerate(contents)), files=())


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


WITH_KEY = {"model": {"name": "openai-chat:x", "apiKey": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}}


def test_an_option_wins_over_a_file_and_a_file_over_the_manifest(tmp_path: Path) -> None:
    found = documents(secret("openai", a="manifest", b="manifest", c="manifest"))
    (tmp_path / ".secrets" / "openai").mkdir(parents=True)
    for key in "bc":
        (tmp_path / ".secrets" / "openai" / key).write_text("file\n")
    sources = read_sources(found, overrides=["openai/c=option"], folder=tmp_path)
    assert sources.secrets["openai"] == {"a": b"manifest", "b": b"file", "c": b"option"}


def test_the_newline_of_an_editor_is_dropped_and_texts_of_several_lines_stay(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one\n")
    (tmp_path / "pem").write_text("one\ntwo\n")
    overrides = [f"s/key=@{tmp_path}/key", f"s/pem=@{tmp_path}/pem"]
    sources = read_sources(documents(), overrides=overrides, folder=tmp_path)
    assert sources.secrets["s"] == {"key": b"one", "pem": b"one\ntwo\n"}


def test_a_secret_option_may_name_a_variable_of_the_environment(tmp_path: Path) -> None:
    environ = {"MODEL_KEY": CANARY, "EMPTY": ""}
    sources = read_sources(documents(), overrides=["s/key=env:MODEL_KEY"], folder=tmp_path, environ=environ)
    assert sources.secrets == {"s": {"key": CANARY.encode()}}
    for unset in ("EMPTY", "OTHER"):
        with pytest.raises(CliError, match=f"s/key: the variable {unset} is not set"):
            read_sources(documents(), overrides=[f"s/key=env:{unset}"], folder=tmp_path, environ=environ)


def test_a_process_is_called_as_its_environment_says_where_several_serve_one_agent(tmp_path: Path) -> None:
    env = [{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    alone, one_of_three = (
        local_agent(agent(runtime={"env": env}), Sources(folder=tmp_path), pod=pod).environment
        for pod in (None, "agent-2")
    )
    assert (alone["POD_NAME"], alone["ME"]) == ("hello-local", "hello-local")
    assert (one_of_three["POD_NAME"], one_of_three["ME"]) == ("agent-2", "agent-2")


def test_data_is_decoded_and_broken_base64_is_told_without_its_value(tmp_path: Path) -> None:
    good = {**secret("s"), "stringData": None, "data": {"k": base64.b64encode(b"v").decode()}}
    assert read_sources(documents(good), folder=tmp_path).secrets == {"s": {"k": b"v"}}
    bad = {**secret("s"), "data": {"k": CANARY}}
    with pytest.raises(CliError, match=r"data\.k is not base64") as caught:
        read_sources(documents(bad), folder=tmp_path)
    assert CANARY not in str(caught.value)


def test_a_secret_option_of_the_wrong_shape_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="NAME/KEY=VALUE") as caught:
        read_sources(documents(), overrides=[f"openai={CANARY}"], folder=tmp_path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(("store", "field"), [("Redis", "spec.redis.urlFrom"), ("Postgres", "spec.postgres.urlFrom")])
def test_a_store_whose_secret_is_missing_is_named_by_the_field_that_names_it(
    tmp_path: Path, store: str, field: str
) -> None:
    where = {name: {"urlFrom": {"secretKeyRef": {"name": name, "key": "url"}}} for name in ("redis", "postgres")}
    resource = agent(conversations={"store": store}, **where)
    with pytest.raises(CliError) as caught:
        local_agent(resource, read_sources(documents(), folder=tmp_path))
    assert field in str(caught.value)
    assert "conversations.url" not in str(caught.value)


def test_a_database_of_steps_whose_secret_is_missing_is_named_by_the_field_that_names_it(tmp_path: Path) -> None:
    where = {name: {"urlFrom": {"secretKeyRef": {"name": name, "key": "url"}}} for name in ("redis", "postgres")}
    resource = agent(queue={"enabled": True, "durability": "Steps"}, **where)
    with pytest.raises(CliError) as caught:
        local_agent(resource, read_sources(documents(), folder=tmp_path))
    assert "spec.redis.urlFrom" in str(caught.value)
    assert "spec.postgres.urlFrom" in str(caught.value)
    assert "stepsUrl" not in str(caught.value)


def test_everything_that_is_missing_is_named_at_once_with_the_field_and_the_mend(tmp_path: Path) -> None:
    resource = agent(
        **WITH_KEY,
        agent={"instructionsFrom": {"configMapKeyRef": {"name": "prompt", "key": "system.md"}}},
        runtime={
            "env": [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}],
            "envFrom": [{"secretRef": {"name": "more"}}],
        },
    )
    with pytest.raises(CliError) as caught:
        local_agent(resource, Sources(folder=tmp_path))
    said = str(caught.value)
    assert "Secret openai, key api-key (needed by spec.model.apiKey)" in said
    assert "ConfigMap prompt, key system.md (needed by spec.agent.instructionsFrom)" in said
    assert "Secret db, key url (needed by spec.runtime.env DATABASE_URL)" in said
    assert "Secret more (needed by spec.runtime.envFrom[0])" in said
    assert f"{tmp_path}/.secrets/db/url" in said
    assert "add the ConfigMap prompt to the manifest" in said


def test_values_of_secrets_are_in_no_representation(tmp_path: Path) -> None:
    sources = Sources(folder=tmp_path, secrets={"openai": {"api-key": CANARY.encode()}})
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}]
    found = local_agent(agent(**WITH_KEY, runtime={"env": env}), sources)
    assert found.secret_files == {("openai", "api-key"): CANARY.encode()}
    assert found.environment["K"] == CANARY
    assert CANARY not in repr(found) + repr(sources)


def test_the_environment_is_made_as_the_kubelet_makes_it(tmp_path: Path) -> None:
    sources = Sources(
        folder=tmp_path,
        secrets={"db": {"PASSWORD": b"s3cret"}},
        config_maps={"settings": {"HOST": b"db.local", "LEVEL": b"low"}},
    )
    runtime = {
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "DB_"}, {"secretRef": {"name": "db"}}],
        "env": [
            {"name": "URL", "value": "postgres://app:$(PASSWORD)@$(DB_HOST)/$(LATER)/$$(DB_HOST)"},
            {"name": "LATER", "value": "x"},
            {"name": "DB_LEVEL", "value": "high"},
            {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
    }
    variables = local_agent(agent(runtime=runtime), sources).environment
    assert variables["URL"] == "postgres://app:s3cret@db.local/$(LATER)/$(DB_HOST)"
    assert variables["DB_LEVEL"] == "high"
    assert variables["WHERE"] == "team-a"
    assert variables["ENVIRONMENT"] == "production"


def test_the_variable_environment_may_be_the_authors_own(tmp_path: Path) -> None:
    found = local_agent(agent(runtime={"env": [{"name": "ENVIRONMENT", "value": "laptop"}]}), Sources(folder=tmp_path))
    assert found.environment["ENVIRONMENT"] == "laptop"


def test_what_has_no_meaning_here_is_said(tmp_path: Path) -> None:
    runtime = {
        "env": [{"name": "NODE_LABEL", "valueFrom": {"fieldRef": {"fieldPath": "spec.unheard"}}}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    notes = " ".join(local_agent(agent(runtime=runtime), Sources(folder=tmp_path)).notes)
    assert "spec.unheard" in notes
    assert "/data" in notes


def test_logs_are_text_here_unless_the_manifest_says_otherwise(tmp_path: Path) -> None:
    sources = Sources(folder=tmp_path)
    assert local_agent(agent(), sources).config.observability.log_format is LogFormat.TEXT
    asked = agent(observability={"logFormat": "json"})
    assert local_agent(asked, sources).config.observability.log_format is LogFormat.JSON


def test_a_token_that_the_operator_would_generate_is_generated_and_kept_over_reloads(tmp_path: Path) -> None:
    sources = Sources(folder=tmp_path)
    first = local_agent(agent(auth={"type": "BearerToken"}), sources)
    assert first.token
    assert first.secret_files == {("hello-token-local", "token"): first.token.encode()}
    assert local_agent(agent(auth={"type": "BearerToken"}), sources, token=first.token).token == first.token


def test_an_agent_without_auth_has_no_token(tmp_path: Path) -> None:
    assert local_agent(agent(), Sources(folder=tmp_path)).token is None


def test_every_reference_to_a_secret_is_found_wherever_it_stands() -> None:
    reference = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    resource = agent(
        **WITH_KEY,
        agent={
            "instructions": "hi",
            "mcpServers": [{"name": "m", "url": "http://m", "headers": [{"name": "Authorization", **reference}]}],
        },
        auth={"type": "BearerToken", "tokens": [{"name": "web", **reference}]},
    )
    assert [user for user, _ in secret_references(resource.spec)] == [
        "agent.mcpServers[0].headers[0]",
        "model.apiKey",
        "auth.tokens[0]",
    ]


def test_an_invalid_manifest_is_told_with_every_field(tmp_path: Path) -> None:
    content: dict[str, object] = {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"name": "x"},
        "spec": {"agent": {"instruction": "hi"}, "model": {"name": "test"}, "replicas": -1},
    }
    with pytest.raises(CliError) as caught:
        parse_agent(content, origin="a.yaml:1")
    assert "spec.agent.instruction: unknown field; did you mean instructions?" in caught.value.message
    assert "spec.replicas" in caught.value.message
