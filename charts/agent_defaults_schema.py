"""Writes the types' schema of `agentDefaults` into the chart's values.schema.json, so that Helm refuses typos at any depth.

Run as ``python charts/agent_defaults_schema.py [--check]``; the rest of the file is written by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agentservice_api.defaults import defaults_json_schema

SCHEMA = Path(__file__).parent / "agentservice-operator" / "values.schema.json"


def with_agent_defaults(text: str) -> str:
    """Return the text of values.schema.json with the definition of `agentDefaults` replaced."""
    schema = json.loads(text)
    schema["definitions"]["agentDefaults"] = defaults_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` only tell; return the exit code: 1 when the check finds the file stale."""
    text = SCHEMA.read_text(encoding="utf-8")
    current = with_agent_defaults(text)
    if text == current:
        return 0
    if "--check" in arguments:
        print(f"{SCHEMA.name} is stale: run `make generate` and commit the result", file=sys.stderr)
        return 1
    SCHEMA.write_text(current, encoding="utf-8")
    print(f"wrote {SCHEMA}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
