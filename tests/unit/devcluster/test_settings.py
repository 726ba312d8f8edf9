"""What the environment decides, and what it must not decide."""

from pathlib import Path

import pytest

from devcluster import cli
from devcluster.errors import ClusterError
from devcluster.settings import Provider, read_settings


def test_a_kubeconfig_that_the_shell_carries_is_never_used(tmp_path: Path):
    settings = read_settings({"HOME": str(tmp_path), "KUBECONFIG": "/home/me/.kube/production"})
    assert settings.kubeconfig is None
    assert settings.provider is None


def test_the_callers_cluster_is_used_when_it_is_named_for_us(tmp_path: Path):
    (tmp_path / "mine").touch()
    settings = read_settings({"HOME": str(tmp_path), "AGENTSERVICE_KUBECONFIG": str(tmp_path / "mine")})
    assert settings.kubeconfig == tmp_path / "mine"
    assert settings.provider is Provider.CALLER


def test_a_kubeconfig_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(ClusterError, match="/nowhere/config, which is not a file"):
        read_settings({"HOME": str(tmp_path), "AGENTSERVICE_KUBECONFIG": "/nowhere/config"})


@pytest.mark.parametrize("hidden", ["/run/user/0", "/var/lib/ci", "/opt/cache", "/var/log"])
def test_a_cache_that_nodes_cannot_see_is_refused(hidden: str):
    with pytest.raises(ClusterError, match="set XDG_CACHE_HOME"):
        read_settings({"HOME": "/root", "XDG_CACHE_HOME": hidden})


def test_the_cache_lies_where_the_user_keeps_caches(tmp_path: Path):
    assert read_settings({"HOME": str(tmp_path)}).cache == tmp_path / ".cache" / "agentservice-devcluster"
    assert read_settings({"XDG_CACHE_HOME": str(tmp_path)}).cache == tmp_path / "agentservice-devcluster"


def test_an_unknown_kind_of_cluster_is_refused(tmp_path: Path):
    with pytest.raises(ClusterError, match="use kind or native"):
        read_settings({"HOME": str(tmp_path), "AGENTSERVICE_CLUSTER": "k3s"})


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_continuous_integration_is_recognised(tmp_path: Path, value: str, expected: bool):
    assert read_settings({"HOME": str(tmp_path), "CI": value}).ci is expected


def test_arguments_of_kubectl_are_left_to_kubectl():
    assert cli.split(["kubectl", "-n", "x", "get", "pods", "--help"]) == (
        ["kubectl"],
        ["-n", "x", "get", "pods", "--help"],
    )
    assert cli.split(["--name", "b", "helm", "list"]) == (["--name", "b", "helm"], ["list"])
    assert cli.split(["--name", "helm", "up"]) == (["--name", "helm", "up"], [])
    assert cli.split(["up", "--nodes", "2"]) == (["up", "--nodes", "2"], [])


@pytest.mark.parametrize(("words", "name"), [(["status"], "cold"), (["--name", "warm", "status"], "warm")])
def test_a_cluster_is_named_by_the_environment_and_more_so_by_the_option(
    words: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("AGENTSERVICE_CLUSTER", "native")
    monkeypatch.setenv("AGENTSERVICE_CLUSTER_NAME", "cold")
    cli.main(words)
    printed = capsys.readouterr()
    assert f"cluster {name} is not up" in printed.out + printed.err
