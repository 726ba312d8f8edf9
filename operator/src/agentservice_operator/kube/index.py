"""Decides how the keys of objects are found by a value. Most values have one key, which a set would make four times as large."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from agentservice_operator.manifest import Key, Manifest

ValuesOf = Callable[[Manifest], Iterable[Hashable]]


class Index:
    """The keys of the objects for which ``values_of`` gave a value."""

    def __init__(self, values_of: ValuesOf) -> None:
        self.values_of = values_of
        self._keys: dict[Hashable, Key | set[Key]] = {}

    def keys(self, value: Hashable) -> list[Key]:
        """Return the keys under ``value``, ordered by namespace and name."""
        found = self._keys.get(value)
        if found is None:
            return []
        return sorted(found) if isinstance(found, set) else [found]

    def move(self, key: Key, before: Iterable[Hashable], after: Iterable[Hashable]) -> None:
        """File ``key`` under ``after``, where it was filed under ``before``."""
        if before == after:
            return
        old, new = set(before), set(after)
        for value in old - new:
            self._remove(value, key)
        for value in new - old:
            found = self._keys.get(value)
            if found is None:
                self._keys[value] = key
            elif isinstance(found, set):
                found.add(key)
            elif found != key:
                self._keys[value] = {found, key}

    def _remove(self, value: Hashable, key: Key) -> None:
        found = self._keys.get(value)
        if isinstance(found, set):
            found.discard(key)
            if len(found) == 1:
                self._keys[value] = found.pop()
        elif found == key:
            del self._keys[value]
