"""The prompt template's whole language: names, braces, literal text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservice_runtime.template import PromptTemplate, TemplateError

NAMES = {"customer_id", "issue", "priority", "order"}


def render(template, **values):
    return PromptTemplate.parse(template, properties=NAMES).render(values)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Customer {customer_id}: {issue}", "Customer 7: it {x} {{y}} broke"),
        ("{{x}} {{{customer_id}}}", "{x} {7}"),
        ("no names, 'quotes', \"double\", 🦜, \\n, %s, $x", "no names, 'quotes', \"double\", 🦜, \\n, %s, $x"),
        ("{order}", '{"items":[1,2],"gift":true,"note":null}'),
        ("{priority}|", "|"),
    ],
)
def test_a_template_renders_names_braces_and_text(template, expected):
    order = {"items": [1, 2], "gift": True, "note": None}
    assert render(template, customer_id=7, issue="it {x} {{y}} broke", order=order) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{customer_id.__class__}",
        "{customer_id[0]}",
        "{customer_id!r}",
        "{customer_id:>10}",
        "{unknown}",
        "{}",
        "{0}",
        "{ customer_id }",
        "{",
        "}",
        "a } b",
        "{customer_id",
        "{{{",
    ],
)
def test_everything_else_in_braces_is_refused_with_the_mend(template):
    with pytest.raises(TemplateError, match=r"character \d+.*(\{\{|\}\}|declared)"):
        PromptTemplate.parse(template, properties=NAMES)


@given(st.text(), st.text())
def test_no_input_is_ever_read_as_a_template(issue, text):
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert render(f"{escaped}{{issue}}", issue=issue) == text + issue
