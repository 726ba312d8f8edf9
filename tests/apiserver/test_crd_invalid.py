"""Each manifest of `invalid/` is refused by a real API server on apply, with a message that names the field and the rule.

Those of `invalid/semantic/` are accepted by the server: only code can judge them.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentservice_api.semantics import semantic_problems
from agentservice_api.spec import AgentService
from devcluster.api import RefusedError
from devcluster.standalone import StandaloneControlPlane

HERE = Path(__file__).with_name("invalid")
REFUSED = sorted(HERE.glob("*.yaml"))
SEMANTIC = sorted((HERE / "semantic").glob("*.yaml"))


def expectations(path: Path) -> tuple[str, str]:
    field, says = path.read_text().splitlines()[:2]
    return field.removeprefix("# field: "), says.removeprefix("# says: ")


def manifest(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def agents(namespace: str) -> str:
    return f"/apis/agentservice.dev/v1alpha1/namespaces/{namespace}/agentservices"


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_client_side_apply_is_refused_and_the_message_names_field_and_rule(
    control_plane: StandaloneControlPlane, path: Path
) -> None:
    field, says = expectations(path)
    with pytest.raises(RefusedError) as refused:
        # what kubectl apply sends for a new object
        control_plane.api.request("POST", f"{agents('default')}?fieldValidation=Strict&dryRun=All", manifest(path))
    message = str(refused.value)
    assert refused.value.status in (400, 422)
    # the entry of a map is written as [key] by the server
    assert field in message or f"{field.rpartition('.')[0]}[{field.rpartition('.')[2]}]" in message
    assert says in message


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_server_side_apply_is_refused_and_the_message_names_the_field(
    control_plane: StandaloneControlPlane, path: Path
) -> None:
    resource = manifest(path)
    with pytest.raises(RefusedError) as refused:
        control_plane.api.request(
            "PATCH",
            f"{agents('default')}/{resource['metadata']['name']}?fieldManager=test&fieldValidation=Strict&dryRun=All",
            resource,
            content_type="application/apply-patch+yaml",
        )
    assert refused.value.status in (400, 422, 500)
    field = expectations(path)[0].rstrip("]0123456789[").rpartition(".")[2]
    assert field in str(refused.value)


def test_kubectl_apply_accepts_none_of_them(control_plane: StandaloneControlPlane, namespace: str) -> None:
    assert len(REFUSED) >= 35
    tried = control_plane.kubectl("-n", namespace, "apply", f"--filename={HERE}", check=False)
    assert tried.returncode != 0
    assert tried.stdout == ""
    assert control_plane.api.request("GET", agents(namespace))["items"] == []


@pytest.mark.parametrize("path", SEMANTIC, ids=lambda path: path.stem)
def test_what_only_code_can_judge_is_accepted_by_the_server_and_named_by_the_code(
    control_plane: StandaloneControlPlane, namespace: str, path: Path
) -> None:
    field, says = expectations(path)
    stored = control_plane.api.request("POST", f"{agents(namespace)}?fieldValidation=Strict", manifest(path))
    problems = semantic_problems(AgentService.model_validate(stored).spec)
    assert [problem.field for problem in problems] == [field]
    assert says in problems[0].message


def test_there_are_enough_that_only_code_can_judge() -> None:
    assert len(SEMANTIC) >= 12
