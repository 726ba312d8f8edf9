"""How answers reach a terminal or a pipe."""

import pytest

from agentservice_cli.exits import CliError
from agentservice_cli.terminal import Cell, OutputFormat, Tone, age, complain, confirm, document, say, table, to_yaml


def test_a_table_for_a_pipe_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table(["NAME", "MESSAGE"], [[Cell("a", Tone.GOOD), "x" * 300], ["longer", "one\ntwo"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME     MESSAGE", "a        " + "x" * 300, "longer   one two"]


def test_no_colour_reaches_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    say("good", Tone.GOOD)
    complain(CliError("bad", mend="do this\nor that"))
    out, err = capsys.readouterr()
    assert out == "good\n"
    assert err == "error: bad\n  do this\n  or that\n"


def test_a_list_as_yaml_is_one_document_each_and_long_texts_are_blocks() -> None:
    assert to_yaml([{"a": "x\ny\n"}, {"b": 1}]) == "---\na: |\n  x\n  y\n---\nb: 1\n"


def test_a_manifest_that_repeats_an_object_says_it_twice_in_yaml() -> None:
    labels = {"app": "x"}
    assert "&" not in to_yaml({"one": labels, "two": labels})


def test_json_keeps_letters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    document({"text": "Grüße 🌍"}, OutputFormat.JSON)
    assert "Grüße 🌍" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (86400, "1d"),
        (10 * 86400, "10d"),
    ],
)
def test_ages_are_written_as_kubectl_writes_them(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_a_question_that_nobody_can_answer_is_an_error_that_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(CliError, match="--yes"):
        confirm("Really?")
