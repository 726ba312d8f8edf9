"""What `agentservice init` writes."""

import ast
import tomllib
from pathlib import Path

import pytest
import yaml

from agentservice_api.strict import check_manifest
from agentservice_cli.exits import CliError
from agentservice_cli.scaffold import content_of, create, package_of


def test_the_manifest_is_valid_and_points_at_the_code_that_was_written() -> None:
    content = content_of("my-agent")
    manifest = yaml.safe_load(content["agent.yaml"])
    assert check_manifest(manifest) == []
    module, _, attribute = manifest["spec"]["agent"]["entrypoint"].partition(":")
    code = ast.parse(content[module.replace(".", "/") + ".py"])
    names = {
        target.id
        for node in code.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert attribute in names
    assert manifest["spec"]["model"] == {"name": "test"}


def test_the_lines_that_switch_to_a_real_model_are_valid_when_they_are_uncommented() -> None:
    lines = content_of("my-agent")["agent.yaml"].splitlines()
    switched = [
        line.replace("# name:", "name:").replace("# apiKey:", "apiKey:") for line in lines if "name: test" not in line
    ]
    manifest = yaml.safe_load("\n".join(switched))
    assert manifest["spec"]["model"]["name"].startswith("openai-chat:")
    assert check_manifest(manifest) == []


def test_no_placeholder_is_left_and_every_python_file_compiles() -> None:
    for path, text in content_of("my-agent").items():
        assert "{name}" not in text
        assert "{package}" not in text
        if path.endswith(".py"):
            ast.parse(text)
    tomllib.loads(content_of("my-agent")["pyproject.toml"])


def test_secrets_are_kept_out_of_git_and_out_of_the_image() -> None:
    content = content_of("my-agent")
    assert ".secrets/" in content[".gitignore"].splitlines()
    assert ".secrets/" in content[".dockerignore"].splitlines()


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "my-agent"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    with pytest.raises(CliError, match=r"already holds README\.md"):
        create("my-agent", parent=tmp_path)
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    assert (folder / "README.md").read_text() == "mine"


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "my-agent").mkdir()
    assert len(create("my-agent", parent=tmp_path)) == len(content_of("my-agent"))


@pytest.mark.parametrize("name", ["My-Agent", "1st", "a.b", "../x", "x-", "", "a" * 53, "json", "class", "pydantic-ai"])
def test_a_name_that_cannot_be_an_agents_or_a_packages_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(CliError) as caught:
        package_of(name)
    assert caught.value.mend
