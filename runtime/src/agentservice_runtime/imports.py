"""Decides what ``module:attribute`` of the user's package stands for, and what is said when it cannot be had."""

from __future__ import annotations

import importlib
from typing import Any

from agentservice_runtime.rejected import ConfigurationRejected


def resolve(path: str, *, field: str) -> Any:
    """Import and return ``module:attribute``. Raises ConfigurationRejected that says which half is missing.

    The text of an error that the user's module raises is shown: it is said to the developer, in the pod's
    termination message, while nothing of a request or a Secret has been read yet.
    """
    module_name, _, attribute = path.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if missing == module_name or module_name.startswith(f"{missing}."):
            raise ConfigurationRejected(
                field, f"there is no module {missing!r}: build an image that holds your package, or mend the name"
            ) from None
        raise ConfigurationRejected(
            field, f"{module_name} needs the module {missing!r}, which is not installed: add it to your image"
        ) from None
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:300]
        raise ConfigurationRejected(
            field, f"importing {module_name} failed with {type(error).__name__}: {first}"
        ) from error
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise ConfigurationRejected(
                field, f"{module_name} has no {attribute!r}: mend the name after the colon"
            ) from None
    return value
