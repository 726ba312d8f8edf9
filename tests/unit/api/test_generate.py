"""Generated files are current, and a stale one is named."""

from pathlib import Path

import pytest
import yaml

from agentservice_api.conditions import ConditionType, EventReason, Reason
from agentservice_api.crd import custom_resource_definition
from agentservice_api.generate import CONDITIONS_PAGE, CRD_FILE, FIELDS_PAGE, generated_files, main, stale_files

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_committed_files_are_what_the_types_give() -> None:
    assert stale_files(REPOSITORY) == ()


def test_writing_makes_everything_current_and_a_second_time_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("wrote ") == len(generated_files())
    assert main(["--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["--check", "--root", str(tmp_path)]) == 0


def test_a_check_writes_nothing_and_names_what_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--root", str(tmp_path)])
    page = tmp_path / FIELDS_PAGE
    page.write_text("edited by hand")
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert FIELDS_PAGE in capsys.readouterr().err
    assert page.read_text() == "edited by hand"


def test_the_yaml_says_what_the_definition_says() -> None:
    assert yaml.safe_load(generated_files()[CRD_FILE]) == custom_resource_definition()


def test_the_pages_name_every_field_condition_and_reason() -> None:
    files = generated_files()
    for kind in (ConditionType, Reason, EventReason):
        for member in kind:
            assert f"| `{member.value}` | {member.doc.replace('|', chr(92) + '|')} |" in files[CONDITIONS_PAGE]
    for field in (
        "spec.agent.mcpServers[].headers[].valueFrom.secretKeyRef.key",
        "spec.replicas",
        "status.conditions[].reason",
    ):
        assert f"`{field}`" in files[FIELDS_PAGE]
    assert "| `spec.network.service.port` | integer, 1 to 65535 | `80` |" in files[FIELDS_PAGE]
