"""What the documents show is true: blocks parse, manifests are valid, words exist, links lead somewhere."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from markdown_it import MarkdownIt
from pydantic_ai.usage import RunUsage
from typer.main import get_command

from agentservice_api import ConditionType, Reason
from agentservice_api.names import API_VERSION
from agentservice_api.spec import AgentServiceSpec
from agentservice_api.strict import check_manifest
from agentservice_cli.commands import app as cli
from agentservice_runtime.chat import request as chat
from agentservice_runtime.errors import Category, Problem
from agentservice_runtime.runner import Answer

REPOSITORY = Path(__file__).resolve().parents[3]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/README.md", "devcluster/*.md")
    for path in REPOSITORY.glob(pattern)
)
BLOCKS = [
    pytest.param(path, token.info, token.content, id=f"{path.relative_to(REPOSITORY)}:{token.map[0] + 1}")
    for path in PAGES
    for token in MarkdownIt().parse(path.read_text())
    if token.type == "fence" and token.map
]
URL = {"urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}
REST = {"agent": {"instructions": "x"}, "model": {"name": "test"}, "redis": URL, "postgres": URL}
"""What a part of a specification may leave to the reader."""
OF_OTHERS = {"rules"}
"""prometheus-adapter's."""
QUIET = {
    "Available",
    "Accepted",
    "Followed",
    "Mounted",
    "NoPods",
    "NotReferenced",
    "Priced",
    "Scaling",
    "ScaledExternally",
    "Routed",
    "WithinBudget",
}
"""Reasons that ask nothing of anybody."""


def page(name):
    return (REPOSITORY / name).read_text()


def first_column(text, heading):
    """The first cells of the table under the header row that begins with `heading`, without their backquotes."""
    rows = text.partition(f"\n| {heading} |")[2].splitlines()[2:]
    return [re.match(r"\| (.+?) \| ", row)[1].strip("`") for row in _until_gap(rows)]


def _until_gap(rows):
    for row in rows:
        if not row.startswith("|"):
            return
        yield row


def check_yaml(document):
    """A whole object, a part of an agent's specification, or values of the chart. What belongs to another program is known by name."""
    if document.keys() <= OF_OTHERS:
        return
    if "kind" in document:
        assert document["kind"] == "ConfigMap" or check_manifest(document) == []
        return
    part = document.get("spec", document)
    if part.keys() <= {info.alias or name for name, info in AgentServiceSpec.model_fields.items()}:
        agent = {"apiVersion": API_VERSION, "kind": "AgentService", "metadata": {"name": "agent"}}
        assert check_manifest({**agent, "spec": {**REST, **part}}) == []
        return
    jsonschema.validate(document, json.loads(page("charts/agentservice-operator/values.schema.json")))


@pytest.mark.parametrize("wrong", [{"budget": {"daily": {"tokens": "many"}}}, {"spec": {"qeue": {}}}, {"crds": 7}])
def test_a_part_of_a_manifest_that_is_wrong_is_found(wrong):
    with pytest.raises((AssertionError, jsonschema.ValidationError)):
        check_yaml(wrong)


@pytest.mark.parametrize(("path", "kind", "content"), BLOCKS)
def test_a_block_is_what_it_says(path, kind, content):
    match kind.split(" ")[0]:
        case "yaml":
            for document in yaml.safe_load_all(content):
                check_yaml(document)
        case "json":
            json.loads(content)
        case "python":
            compile(content, str(path), "exec")
        case "sh":
            checked = subprocess.run(["bash", "-n"], input=content, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stderr
        case other:
            assert other in {"", "mermaid"}


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(REPOSITORY)) for path in PAGES])
def test_a_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(REPOSITORY)) for path in PAGES])
def test_a_command_that_is_named_exists(path):
    text = path.read_text()
    targets = set(re.findall(r"^([a-z][-a-z]*):", page("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][-a-z]*)", text, re.MULTILINE)) <= targets
    commands = set(get_command(cli).commands)
    assert set(re.findall(r"(?:^|`)agentservice ([a-z]+)", text, re.MULTILINE)) <= commands


def test_the_readme_lists_every_command_of_the_command_line():
    listed = {
        row.split(" ")[1] for row in first_column(page("README.md"), "command") if row.startswith("agentservice ")
    }
    assert listed == set(get_command(cli).commands) - {"version"}


def test_operations_says_what_to_do_about_every_reason_that_asks_for_something():
    told = [
        *first_column(page("docs/operations.md"), "reason"),
        *first_column(page("docs/operations.md"), "budget's reason"),
        *first_column(page("docs/operations.md"), "autoscaling's reason"),
        *first_column(page("docs/operations.md"), "route's reason"),
        *first_column(page("docs/operations.md"), "secrets' reason"),
    ]
    assert sorted(told) == sorted({reason.value for reason in Reason} - QUIET)


def test_a_condition_that_is_named_exists():
    known = {kind.value for kind in ConditionType}
    for path in PAGES:
        named = set(re.findall(r"`(\w+)=(?:True|False|Unknown)`", path.read_text()))
        assert named <= known, path


def test_the_api_page_lists_every_category_of_errors():
    assert first_column(page("docs/runtime-api.md"), "category") == [category.value for category in Category]


def test_the_api_page_shows_the_documents_that_the_runtime_sends():
    answer, problem = (
        json.loads(token.content)
        for token in MarkdownIt().parse(page("docs/runtime-api.md"))
        if token.type == "fence" and token.info == "json"
    )
    sent = Answer(run_id="", output="", usage=RunUsage(), cost_usd=None, model="").document()
    assert (list(answer), list(answer["usage"])) == (list(sent), list(sent["usage"]))
    known = Problem(status=422, title="", detail="", category=Category.VALIDATION).document()
    assert list(problem) == [*known, "errors"]


def test_the_interfaces_page_tells_of_every_field_of_a_chat_completion():
    rows = page("docs/interfaces.md").partition("\n| fields | |\n")[2].splitlines()[1:]
    told = {}
    for names, meaning in (row.strip("|").split("|") for row in _until_gap(rows)):
        told |= {name: meaning.split(",")[0].split(":")[0].strip() for name in re.findall(r"`(\w+)`", names)}
    fields = {"obeyed": chat.OBEYED, "ignored": chat.IGNORED, "refused": chat.REFUSED}
    assert told == {name: meaning for meaning, names in fields.items() for name in names}


def test_the_security_page_grants_what_the_chart_grants():
    rules = (REPOSITORY / "charts/agentservice-operator/templates/_rbac.tpl").read_text()
    granted = {name for names in re.findall(r"resources: \[(.*)\]", rules) for name in names.split(", ")}
    told = {
        re.sub(r" \(.*|, in its.*", "", name)
        for row in first_column(page("docs/security.md"), "resource")
        for name in (row.split(", ") if "in its own" not in row else [])
    }
    assert told == granted


def test_every_drill_names_a_test_that_exists():
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", page("docs/drills.md"))
    assert len(named) >= 25
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in page(file)] == []
