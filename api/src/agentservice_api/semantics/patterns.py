"""Decides whether a JSON Schema's `pattern` is a regular expression that the runtime can compile.

Judged without compiling it as the runtime does (the `regex` package): a pattern of a stranger must not cost the
operator more than reading it, and that package writes fixed repetitions out, so that ``((a{1000}){1000}){1000}``
takes all memory there is.
"""

from __future__ import annotations

import re
from typing import Final

MAX_PATTERN: Final = 4096
"""Characters."""
MAX_EXPANSION: Final = 20_000
"""Elements that a pattern may have with its fixed repetitions written out: a quarter of a second to compile."""

_COUNT: Final = re.compile(r"\{([0-9]+)(?:,[0-9]*)?\}")
_ELSEWHERE: Final = ("bad escape", "look-behind requires fixed-width")
"""Complaints of Python's own `re` about what `regex` takes."""


def pattern_fault(pattern: str) -> str | None:
    """Return what is wrong with ``pattern``, or None."""
    if len(pattern) > MAX_PATTERN:
        return f"is longer than {MAX_PATTERN} characters: shorten it"
    if _expansion(pattern) > MAX_EXPANSION:
        return "repeats more than can be written out: lower the numbers in braces, or use * and maxLength"
    # Two spellings that ECMA 262 and `regex` share and Python's `re` lacks.
    known = re.sub(r"\\[pP]\{[^{}]*\}", "a", re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", pattern))
    try:
        re.compile(known)
    except re.error as error:
        return None if str(error).startswith(_ELSEWHERE) else f"is not a regular expression: {error}"
    except (RecursionError, OverflowError):
        return "is not a regular expression that can be compiled: it is nested too deeply or repeats too often"
    return None


def _expansion(pattern: str) -> int:
    """Return how many elements the pattern has when ``{n}`` and ``{n,m}`` are written out n times."""
    sizes, last, position = [0], 0, 0
    while position < len(pattern):
        character, step = pattern[position], 1
        if character == "(":
            sizes.append(0)
            last = 0
        elif character == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif character == "{" and (count := _COUNT.match(pattern, position)) is not None:
            # A number of more than nine digits is refused whatever it repeats.
            times = int(count[1]) if len(count[1]) < 10 else 10**9
            sizes[-1] += last * max(times - 1, 0)
            last *= max(times, 1)
            step = count.end() - position
        else:
            step = _atom(pattern, position)
            last = 1
            sizes[-1] += 1
        position += step
    return sum(sizes)


def _atom(pattern: str, position: int) -> int:
    if pattern[position] == "\\":
        return 2
    if pattern[position] == "[":
        end = position + 1
        # "]" stands for itself as the first member of a set
        end += pattern.startswith("^", end)
        end += pattern.startswith("]", end)
        while end < len(pattern) and pattern[end] != "]":
            end += 2 if pattern[end] == "\\" else 1
        return end + 1 - position
    return 1
