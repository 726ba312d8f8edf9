"""Decides which files of the repository are generated from the types, writes them, and tells which are stale.

Run as ``python -m agentservice_api.generate [--check] [--root DIR]`` from the repository's root. Needs the extra
``generate``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from agentservice_api.crd import custom_resource_definition, ledger_definition
from agentservice_api.names import GROUP
from agentservice_api.openapi import Schema
from agentservice_api.reference import conditions_page, fields_page, ledger_page, metrics_page

CRD_FILE = f"crds/{GROUP}_agentservices.yaml"
LEDGER_CRD_FILE = f"crds/{GROUP}_agentledgers.yaml"
CHART_FILES = "charts/agentservice-operator/files"
"""The chart's copies stand under it: Helm reads no file outside a chart."""
LEDGER_PAGE = "docs/reference/agentledger.md"
FIELDS_PAGE = "docs/reference/agentservice.md"
CONDITIONS_PAGE = "docs/reference/conditions.md"
METRICS_PAGE = "docs/reference/metrics.md"

_NOTICE = "# Generated from agentservice_api by `make generate`. Do not edit.\n"


def generated_files() -> Mapping[str, str]:
    """Return each generated file's content by its path under the repository's root."""
    crds = {CRD_FILE: _yaml(custom_resource_definition()), LEDGER_CRD_FILE: _yaml(ledger_definition())}
    return {
        **crds,
        **{f"{CHART_FILES}/{path}": text for path, text in crds.items()},
        FIELDS_PAGE: fields_page(),
        LEDGER_PAGE: ledger_page(),
        CONDITIONS_PAGE: conditions_page(),
        METRICS_PAGE: metrics_page(),
    }


def stale_files(root: Path) -> tuple[str, ...]:
    """Return the paths under ``root`` whose content is not what the types give, missing ones too."""
    return tuple(path for path, content in generated_files().items() if _read(root / path) != content)


def write_files(root: Path) -> tuple[str, ...]:
    """Write what is stale under ``root`` and return those paths."""
    files = generated_files()
    stale = tuple(path for path, content in files.items() if _read(root / path) != content)
    for path in stale:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[path], encoding="utf-8")
    return stale


def main(arguments: Sequence[str]) -> int:
    """Write or check; return the exit code: 1 when ``--check`` finds a stale file, else 0."""
    parser = argparse.ArgumentParser(prog="python -m agentservice_api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the stale files")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root (default: here)")
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_files(options.root)
        for path in stale:
            print(f"{path} is stale: run `make generate` and commit the result", file=sys.stderr)
        return 1 if stale else 0
    for path in write_files(options.root):
        print(f"wrote {path}")
    return 0


def _yaml(definition: Schema) -> str:
    return _NOTICE + yaml.safe_dump(definition, sort_keys=False, width=120, allow_unicode=True)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
