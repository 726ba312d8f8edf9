"""Decides whose turn it is among keys that wait: namespaces take turns, and in one every second turn is the newest key's.

So neither a team that creates a thousand agents nor the thousand of one's own keep the next one waiting until they are
done, and because the other turns are the oldest key's, nobody waits for ever.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agentservice_operator.manifest import Key


@dataclass(slots=True)
class _Namespace:
    keys: deque[Key] = field(default_factory=deque[Key])
    newest: bool = False
    """Whether the next turn is the newest key's."""


class Turns:
    """Keys in the order of their turns. It may hold keys that wait no more: `first` is told which still do."""

    def __init__(self) -> None:
        self._namespaces: OrderedDict[str, _Namespace] = OrderedDict()

    def push(self, key: Key) -> None:
        """Let a key wait. It must not wait already."""
        self._namespaces.setdefault(key.namespace, _Namespace()).keys.append(key)

    def first(self, waits: Callable[[Key], bool]) -> Key | None:
        """Return whose turn it is, None when nobody waits. Keys that do not wait any more are forgotten."""
        while self._namespaces:
            name, namespace = next(iter(self._namespaces.items()))
            while namespace.keys:
                key = namespace.keys[-1] if namespace.newest else namespace.keys[0]
                if waits(key):
                    return key
                self._remove(namespace)
            del self._namespaces[name]
        return None

    def pop(self) -> None:
        """The key that `first` returned has had its turn."""
        name, namespace = next(iter(self._namespaces.items()))
        self._remove(namespace)
        namespace.newest = not namespace.newest
        if namespace.keys:
            self._namespaces.move_to_end(name)
        else:
            del self._namespaces[name]

    def _remove(self, namespace: _Namespace) -> None:
        if namespace.newest:
            namespace.keys.pop()
        else:
            namespace.keys.popleft()
