"""Decides what a person sees at `/docs`: this agent's schemas and how to call it, on one page that loads nothing else.

The usual page for OpenAPI fetches its scripts from another server, which a cluster need not reach.
"""

from __future__ import annotations

import html
import json
from typing import Any, Final, cast

_MAX_DEPTH: Final = 6
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
pre{background:#f4f5f7;padding:.8rem;overflow:auto;border-radius:6px;font-size:14px}
code{font-family:ui-monospace,monospace}table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#16181c}pre{background:#22262c}a{color:#8ab4ff}}
"""


def page(document: dict[str, Any]) -> str:
    """Return the page of the OpenAPI ``document``."""
    info = document["info"]
    schemas = document["components"]["schemas"]
    secured = "securitySchemes" in document["components"]
    token = ' -H "Authorization: Bearer $TOKEN"' if secured else ""
    body = json.dumps({"input": example(schemas["Input"])}, ensure_ascii=False).replace("'", "'\\''")
    statuses = "".join(
        f"<tr><td>{status}</td><td>{html.escape(answer['description'])}</td></tr>"
        for status, answer in document["paths"]["/v1/run"]["post"]["responses"].items()
    )
    paths = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td><td>{html.escape(operation['summary'])}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    calls = "\n\n".join(
        f"curl{option} http://THIS-ADDRESS{path}{token} \\\n  -H 'Content-Type: application/json' -d '{body}'"
        for path, option in (("/v1/run", ""), ("/v1/stream", " -N"))
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])}</p>"
        f"<p>Revision <code>{html.escape(info['version'])}</code> · <a href=openapi.json>OpenAPI document</a></p>"
        f"<h2>Paths</h2><table>{paths}</table>"
        f"<h2>Call it</h2><pre>{html.escape(calls)}</pre>"
        f"<p>{html.escape(document['paths']['/v1/stream']['post']['description'])}</p>"
        f"<h2>Input</h2>{_json(schemas['Input'])}<h2>Output</h2>{_json(schemas['Output'])}"
        f"<h2>Answer</h2>{_json(schemas['Answer'])}"
        f"<h2>Statuses</h2><p>Every failure is a problem document (<code>application/problem+json</code>), and under "
        f"<code>/v1/chat</code> and <code>/v1/models</code> an error of OpenAI's shape.</p>"
        f"<table>{statuses}</table>{_json(schemas['Problem'])}</html>"
    )


def example(schema: Any, *, depth: int = 0) -> Any:
    """Return a value that shows the form of ``schema``; it need not satisfy every rule."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    members = cast("dict[str, Any]", schema)
    for given in ("default", "const"):
        if given in members:
            return members[given]
    for several in ("examples", "enum"):
        if members.get(several):
            return members[several][0]
    kind = members.get("type")
    if kind == "object" or "properties" in members:
        required = cast("set[str]", set(members.get("required") or members.get("properties") or ()))
        return {
            name: example(below, depth=depth + 1)
            for name, below in cast("dict[str, Any]", members.get("properties") or {}).items()
            if name in required
        }
    if kind == "array":
        return [example(members.get("items", {}), depth=depth + 1)]
    return {"string": "...", "integer": 1, "number": 1.5, "boolean": True}.get(str(kind))


def _json(value: Any) -> str:
    return f"<pre>{html.escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
