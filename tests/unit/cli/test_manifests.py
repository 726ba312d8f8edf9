"""What the files given with -f say."""

from pathlib import Path

import pytest

from agentservice_cli import manifests
from agentservice_cli.exits import CliError

AGENT = """\
apiVersion: agentservice.dev/v1alpha1
kind: AgentService
metadata: {name: %s}
spec: {agent: {instructions: hi}, model: {name: test}}
"""


def write(path: Path, *documents: str) -> str:
    path.write_text("---\n".join(documents))
    return str(path)


def test_documents_are_found_by_kind_and_know_their_line(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
    found = manifests.read([write(tmp_path / "a.yaml", AGENT % "one", secret)])
    assert found.agent().name == "one"
    assert [document.origin for document in found.secrets] == [f"{tmp_path}/a.yaml:6"]
    assert found.folder == tmp_path


def test_a_list_is_unfolded_and_empty_documents_are_nothing(tmp_path: Path) -> None:
    items = "kind: List\napiVersion: v1\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}]\n"
    found = manifests.read([write(tmp_path / "a.yaml", "# nothing\n", items, "")])
    assert [document.name for document in found.config_maps] == ["c"]


def test_a_folder_is_read_with_its_yaml_and_json_files_and_not_deeper(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "c.yaml", AGENT % "three")
    write(tmp_path / "a.yaml", AGENT % "one")
    (tmp_path / "notes.txt").write_text("{[")
    assert [agent.name for agent in manifests.read([str(tmp_path)]).agents] == ["one"]


def test_the_one_of_several_agents_must_be_named(tmp_path: Path) -> None:
    found = manifests.read([write(tmp_path / "a.yaml", AGENT % "one", AGENT % "two")])
    assert found.agent("two").name == "two"
    with pytest.raises(CliError, match="several AgentServices: one, two"):
        found.agent()
    with pytest.raises(CliError, match="it holds: one, two"):
        found.agent("three")


def test_a_wrong_api_version_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", (AGENT % "one").replace("v1alpha1", "v1"))
    with pytest.raises(CliError, match=r"apiVersion is 'agentservice.dev/v1', it must be agentservice.dev/v1alpha1"):
        manifests.read([file]).agent()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1\nb: 2\n", r"a\.yaml:2:2: "),
        ("just words\n", r"a\.yaml:1: a manifest is a mapping, this is a str"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
    ],
)
def test_a_broken_file_is_told_by_file_and_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CliError, match=said):
        manifests.read([str(path)])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"nowhere\.yaml: No such file"):
        manifests.read([str(tmp_path / "nowhere.yaml")])
