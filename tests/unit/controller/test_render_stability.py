"""What agents become stays byte for byte what it was: a changed pod template restarts the pods of every agent at an upgrade.

`UPDATE_RENDERED=1 pytest tests/unit/controller/test_render_stability.py` writes `rendered/` anew. When a difference is meant, say in
CHANGELOG.md whether pods restart: they do where the label `agentservice.dev/revision` changes.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentservice_operator.manifest import canonical
from agentservice_operator.parse import parse
from agentservice_operator.render import render

from .builders import PLATFORM, UID

REPOSITORY = Path(__file__).resolve().parents[3]
RENDERED = Path(__file__).parent / "rendered"
SMALLEST = {"agent": {"instructions": "Answer briefly."}, "model": {"name": "test"}}


def agents() -> dict[str, dict[str, Any]]:
    """By name of the golden file: a stored AgentService."""
    found: dict[str, dict[str, Any]] = {
        "smallest": {"metadata": {"name": "smallest"}, "spec": SMALLEST},
        "unicode": {
            "metadata": {"name": "unicode"},
            "spec": {**SMALLEST, "agent": {"instructions": "Grüße – 你好 \x7f"}},
        },
    }
    files = {
        "full": REPOSITORY / "tests/apiserver/test_crd_full.yaml",
        "bench": REPOSITORY / "tests/bench/operator/agent.yaml",
    }
    for name, path in files.items():
        documents = [
            document for document in yaml.safe_load_all(path.read_text()) if document["kind"] == "AgentService"
        ]
        found[name] = {"metadata": {"name": name}, **documents[0]}
    for name, live in found.items():
        live["metadata"] = {
            "name": live["metadata"].get("name", name),
            "namespace": "team-a",
            "uid": UID,
            "generation": 1,
        }
    return found


@pytest.mark.parametrize("name", sorted(agents()))
def test_what_an_agent_becomes_is_byte_for_byte_what_it_was(name: str) -> None:
    resource = parse(agents()[name], defaults={})
    text = "the text behind instructionsFrom" if resource.spec.agent.instructions_from else None
    children = render(resource, platform=PLATFORM, instructions=text).children
    now = json.dumps(children, indent=1, ensure_ascii=False) + "\n"
    golden = RENDERED / f"{name}.json"
    if os.environ.get("UPDATE_RENDERED"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(now)
    assert now == golden.read_text(), (
        f"{name}: agents would be written anew, and perhaps restarted: see this file's first lines"
    )


texts = st.text(st.characters(blacklist_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(texts, plain, max_size=4))
def test_what_is_hashed_is_what_the_standard_library_writes(manifest: dict[str, Any]) -> None:
    assert canonical(manifest) == json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
