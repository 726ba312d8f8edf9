"""Decides whether the configuration file can be read, and that nothing in it is unknown to this version.

A field that is not known must not be ignored here as it is in the operator: it may be a limit that a newer operator
relies on. The mend is a runtime image of the operator's version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from agentservice_api import RuntimeConfig
from agentservice_api.config import ROLE_VARIABLE, Role
from agentservice_api.schema import Model
from agentservice_runtime.rejected import ConfigurationRejected


def load(path: Path) -> RuntimeConfig:
    """Read ``path``. Raises ConfigurationRejected that names the field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationRejected(
            "configuration", f"{path} cannot be read ({error.strerror}): set AGENTSERVICE_CONFIG or --config"
        ) from None
    try:
        config = RuntimeConfig.from_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ConfigurationRejected(f"spec.{at}" if at else "configuration", first["msg"]) from None
    for field in unknown(json.loads(content), RuntimeConfig, path="spec"):
        raise ConfigurationRejected(
            field,
            "is unknown to this runtime, so it may be of a newer operator: use the runtime image of the operator's version",
        )
    return config


def role_of(environ: Mapping[str, str]) -> Role:
    """Return what this process does. Raises ConfigurationRejected."""
    try:
        return Role(environ.get(ROLE_VARIABLE) or Role.SERVER)
    except ValueError:
        raise ConfigurationRejected(ROLE_VARIABLE, f"is {' or '.join(Role)}: the operator sets it") from None


def unknown(value: Any, model: type[Model], *, path: str) -> Iterator[str]:
    """Yield the path of each member of ``value`` that ``model`` does not have."""
    if not isinstance(value, dict):
        return
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    for name, below in cast("dict[str, Any]", value).items():
        if name not in fields:
            yield f"{path}.{name}"
            continue
        for inner in _models(fields[name]):
            items = cast("list[Any]", below) if isinstance(below, list) else [below]
            for index, item in enumerate(items):
                yield from unknown(
                    item, inner, path=f"{path}.{name}[{index}]" if isinstance(below, list) else f"{path}.{name}"
                )


def _models(annotation: Any) -> Iterator[type[Model]]:
    """Yield the models inside ``annotation``, such as that of ``tuple[Item, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
