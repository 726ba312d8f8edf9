"""Whom the operator says it is, and what it says when it cannot."""

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentservice_operator.kube.credentials import (
    TOKEN_AGE_SECONDS,
    Connection,
    CredentialsError,
    Endpoint,
    find_endpoint,
)
from agentservice_operator.kube.resources import CONFIGMAPS


def kubeconfig(path: Path, user: dict[str, Any], **changes: Any) -> Path:
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
    }
    file = path / "config"
    file.write_text(yaml.safe_dump(content | changes))
    return file


def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    endpoint = find_endpoint({"KUBECONFIG": str(kubeconfig(tmp_path, {"token": "t0ken"}))})
    assert (endpoint.server, endpoint.token, endpoint.namespace) == ("http://127.0.0.1:1", "t0ken", "team")
    assert "t0ken" not in repr(endpoint)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"current-context": "other"}, "no context named 'other'"),
        ({"clusters": []}, "no cluster named 'c'"),
        ({"users": [{"name": "u", "user": {"exec": {"command": "x"}}}]}, "needs a login plugin"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, "names no server"),
    ],
)
def test_an_unusable_kubeconfig_says_why(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CredentialsError, match=said):
        find_endpoint({"KUBECONFIG": str(kubeconfig(tmp_path, {"token": "t"}, **changes))})


def test_outside_a_cluster_and_without_kubeconfig_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="set KUBECONFIG"):
        find_endpoint({}, service_account=tmp_path)
    with pytest.raises(CredentialsError, match="automountServiceAccountToken"):
        find_endpoint({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, service_account=tmp_path)


async def test_the_token_file_is_read_again_after_a_minute_or_a_refusal(tmp_path: Path) -> None:
    now, file = [0.0], tmp_path / "token"
    file.write_text("one\n")
    connection = Connection(Endpoint(server="http://127.0.0.1:1", token_file=file), clock=lambda: now[0])
    assert connection.token() == "one"
    file.write_text("two")
    assert connection.token() == "one"
    now[0] = TOKEN_AGE_SECONDS
    assert connection.token() == "two"
    file.write_text("three")
    connection.distrust_token()
    assert connection.token() == "three"
    file.unlink()
    connection.distrust_token()
    assert connection.token() == "three"
    await connection.close()


async def test_the_wire_and_every_session_present_the_token_and_a_session_may_be_closed(
    api: Any, make_client: Any
) -> None:
    connection = Connection(Endpoint(server=api.url, token="t0ken"), clock=lambda: 0.0)
    api.put("configmaps", "a")
    first, second = connection.session(), connection.session()
    for session in (first, second):
        client = make_client(wire=connection.wire, session=session)
        await client.get(CONFIGMAPS, "ns", "a")
        async with aclosing(client.watch(CONFIGMAPS, resource_version="0")) as events:
            await anext(events)
        await session.close()
    assert [headers["Authorization"] for headers in api.headers] == ["Bearer t0ken"] * 4
    await connection.close()
