"""What admission makes of our own writes is let be, and nothing else is."""

from typing import Any

import pytest

from agentservice_operator.admitted import Admitted
from agentservice_operator.manifest import ChildKey, Key, Manifest
from agentservice_operator.plan import Cause, Change, Plan, Verb

KEY, CHILD = Key("team-a", "support"), ChildKey("Deployment", "support")


def deployment(*variables: str, revision: str = "1", by_hand: str = "", **spec: Any) -> Manifest:
    annotations = {"deployment.kubernetes.io/revision": revision}
    theirs = {f'k:{{"name":"{by_hand}"}}': {".": {}}}
    fields = {"f:spec": {"f:env": theirs}} if by_hand else {}
    entries = [{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields}]
    metadata = {"name": "support", "uid": "u", "annotations": annotations, "managedFields": entries}
    env = [{"name": name, "value": "x"} for name in variables]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"env": env, **spec}}


def drift(live: Manifest, **changes: Any) -> Change:
    arguments: dict[str, Any] = {"child": CHILD, "verb": Verb.APPLY, "cause": Cause.DRIFTED, "live": live}
    arguments["manifest"] = deployment("OURS")
    return Change(**(arguments | changes))


def verbs(admitted: Admitted, *changes: Change) -> list[Verb]:
    return [change.verb for change in admitted.without_futile(KEY, Plan(changes=changes)).changes]


@pytest.fixture
def admitted() -> Admitted:
    """Admission has added a variable to what was applied."""
    made = Admitted()
    answer = deployment("OURS", "ADDED")
    made.note(KEY, drift(answer), answer)
    return made


def test_what_admission_added_is_not_written_again_however_the_controller_counts(admitted: Admitted) -> None:
    assert verbs(admitted, drift(deployment("OURS", "ADDED", revision="2"))) == [Verb.KEEP]


@pytest.mark.parametrize(
    "change",
    [
        drift(deployment("OURS", "ADDED", "BY-HAND")),
        drift(deployment("OURS", "ADDED", replicas=7)),
        drift(deployment("OURS", "ADDED"), cause=Cause.CHANGED),
        drift(deployment("OURS", "ADDED"), child=ChildKey("Deployment", "other")),
    ],
    ids=["a further item", "a changed value", "a new specification", "another object"],
)
def test_anything_else_is_written_as_usual(admitted: Admitted, change: Change) -> None:
    assert verbs(admitted, change) == [Verb.APPLY]


def test_what_somebody_else_put_in_between_is_not_taken_for_admissions() -> None:
    admitted, answer = Admitted(), deployment("OURS", "BY-HAND", by_hand="BY-HAND")
    admitted.note(KEY, drift(answer), answer)
    assert verbs(admitted, drift(answer)) == [Verb.APPLY]


def test_a_deleted_agents_namesake_starts_anew(admitted: Admitted) -> None:
    admitted.forget(KEY)
    assert verbs(admitted, drift(deployment("OURS", "ADDED"))) == [Verb.APPLY]
