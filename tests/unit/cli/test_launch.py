"""How the watching process hands an agent to the serving one."""

from pathlib import Path

from agentservice_api import AgentService, RuntimeConfig
from agentservice_cli.local.agent import local_agent
from agentservice_cli.local.launch import Launch, launch_folder
from agentservice_cli.local.sources import Sources
from agentservice_cli.local.watching import relevance, watched_paths

RESOURCE = AgentService.model_validate(
    {"metadata": {"name": "hello"}, "spec": {"agent": {"instructions": "hi"}, "model": {"name": "test"}}}
)


def test_what_was_written_is_what_is_read_and_nothing_is_left_behind() -> None:
    agent = local_agent(RESOURCE, Sources(folder=Path()))
    with launch_folder() as folder:
        Launch(folder=folder, code="/code", host="127.0.0.1", port=8000, revision="r").write(agent)
        read = Launch.read(folder)
        assert RuntimeConfig.from_json(read.config) == agent.config
        assert (read.code, read.port, read.revision) == ("/code", 8000, "r")
    assert not Path(folder).exists()


def test_nobody_else_can_read_the_secrets_and_only_changed_ones_are_replaced() -> None:
    with launch_folder() as folder:
        launch = Launch(folder=folder, code="", host="", port=1, revision="")
        launch.write_secrets({("s", "same"): b"1", ("s", "changes"): b"1", ("s", "goes"): b"1"})
        same, changes = launch.secrets / "s" / "same", launch.secrets / "s" / "changes"
        before = same.stat().st_ino, changes.stat().st_ino
        launch.write_secrets({("s", "same"): b"1", ("s", "changes"): b"2"})
        assert changes.read_bytes() == b"2"
        assert same.stat().st_ino == before[0]
        assert changes.stat().st_ino != before[1], "a new file in one step, so that nobody reads half of a key"
        assert sorted(path.name for path in launch.secrets.glob("*/*")) == ["changes", "same"]
        assert same.stat().st_mode & 0o077 == 0
        assert Path(folder).stat().st_mode & 0o077 == 0


def test_code_manifests_and_secrets_matter_and_what_programs_write_does_not(tmp_path: Path) -> None:
    from watchfiles import Change

    manifest = tmp_path / "agent.yaml"
    matters = relevance([manifest], tmp_path)
    yes = ["agent.yaml", "pkg/agent.py", ".secrets", ".secrets/openai/api-key"]
    no = ["other.yaml", "data.json", "pkg/__pycache__/agent.cpython-311.py", ".venv/lib/x.py", ".git/HEAD", "out.log"]
    assert [path for path in yes + no if matters(Change.modified, str(tmp_path / path))] == yes


def test_without_code_only_single_folders_are_watched_for_it_may_be_somebodys_home(tmp_path: Path) -> None:
    (tmp_path / ".secrets" / "openai").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    manifest = tmp_path / "agent.yaml"
    assert watched_paths([manifest], tmp_path, recursive=True) == {tmp_path}
    single = watched_paths([manifest], tmp_path, recursive=False)
    assert single == {tmp_path, tmp_path / ".secrets", tmp_path / ".secrets" / "openai"}
