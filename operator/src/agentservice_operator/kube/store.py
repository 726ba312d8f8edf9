"""Decides which of two statements about an object is the later one, and finds objects by name and by index.

Statements come from watches, from lists and from the answers to our own writes, and they race. An object's
resourceVersion orders them: it is comparable within a kind (KEP-5504). A uid that was told deleted stays deleted
unless something later is told of it: an object that left a watch's selection is told as deleted, and may come back.

Objects are kept as packed JSON, not as dictionaries: a Deployment of 7 kB is 60 kB as dictionaries and under one packed,
and thousands of them are read one reconcile at a time. Equal texts also tell that nothing has changed but the resourceVersion.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from agentservice_operator.kube.index import Index, ValuesOf
from agentservice_operator.kube.packing import Packing
from agentservice_operator.manifest import Key, Manifest

OnChange = Callable[[Manifest | None, Manifest | None], None]

_BURIED = 4096
"""How many deleted uids are remembered: more than can be in flight between a write's answer and the watch."""
_SORTED = orjson.OPT_SORT_KEYS  # a list's items and a watch's objects come with their members in different orders


def whole(content: Manifest) -> Manifest:
    """The trim that keeps everything."""
    return content


def is_newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is later than another of the same kind; versions that are no numbers count as later."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than


def key_of(content: Manifest) -> Key:
    """Namespace and name; the namespace of a cluster-scoped object is empty."""
    metadata = content["metadata"]
    # One text for each name, not one for each of an agent's ten objects.
    return Key(sys.intern(metadata.get("namespace") or ""), sys.intern(metadata["name"]))


@dataclass(frozen=True, slots=True)
class _Stored:
    """One object: `packed` is all of it but its resourceVersion, `filed` the values of each index."""

    version: str
    uid: str
    packed: bytes
    filed: tuple[tuple[Hashable, ...], ...]


@dataclass(slots=True)
class _Writing:
    """A write of ours that is under way.

    `hushed`: the object as it was before the first change that nobody was told of; `last`: as it was last there.
    """

    hushed: _Stored | None = None
    is_hushed: bool = False
    last: Manifest | None = None
    answered: str = ""


class ObjectStore:
    """Objects of one kind, trimmed. What is read from it is the reader's own copy.

    `trim` returns what is worth storing, as plain JSON. `on_change(old, new)` is called after the store has changed: new
    None is a deletion, old None an object not known before. A new resourceVersion alone is no change, unless `by_version`
    says that what we keep of an object does not show its content. `on_seen` is called like it, but at once for every state
    that is told, also while a write of ours is under way. `indexes` name functions that give the values under
    which a stored object is found by `by_index`.
    """

    def __init__(
        self,
        *,
        trim: Callable[[Manifest], Manifest] = whole,
        indexes: Mapping[str, ValuesOf] | None = None,
        on_change: OnChange | None = None,
        on_seen: OnChange | None = None,
        by_version: bool = False,
    ) -> None:
        self._trim = trim
        self._on_seen = on_seen
        self._on_change = on_change
        self._by_version = by_version
        self._objects: dict[Key, _Stored] = {}
        self._packing = Packing()
        self._buried: OrderedDict[str, str] = OrderedDict()
        self._indexes = {name: Index(values_of) for name, values_of in (indexes or {}).items()}
        self._writes: dict[Key, _Writing] = {}
        self._listed_at: dict[str, str] = {}

    def get(self, namespace: str, name: str) -> Manifest | None:
        """Return the object, None when there is none."""
        stored = self._objects.get(Key(namespace, name))
        return self._unpacked(stored)

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def by_index(self, index: str, value: Hashable) -> list[Manifest]:
        """Return the objects that ``index`` files under ``value``, ordered by namespace and name."""
        return [self._unpack(self._objects[key]) for key in self._indexes[index].keys(value)]

    def keys(self) -> list[Key]:
        return list(self._objects)

    def __iter__(self) -> Iterator[Manifest]:
        for stored in list(self._objects.values()):
            yield self._unpack(stored)

    def __len__(self) -> int:
        return len(self._objects)

    def remember(self, content: Manifest) -> None:
        """Take the answer to a write, unless something later is known. Not told to `on_change`: its writer knows.

        The watch's event of the same write then brings nothing new, so one's own writes wake nobody.
        """
        if not self.is_buried(content) and not self._is_missed(content):
            self._put(content, tell=False)

    @contextmanager
    def writing(self, namespace: str, name: str) -> Generator[Callable[[Manifest], None]]:
        """Hold back what the watch tells of this object until our write of it is answered, and yield where to put the answer.

        The watch is often faster than the answer. What it told is told to `on_change` afterwards, unless the object is as
        it was answered, and so as the writer knows it. An object that was answered and is gone is told, even if it came and
        went within our write, or between two lists.
        """
        key = Key(namespace, name)
        if key in self._writes:
            yield self.remember
            return
        write = self._writes[key] = _Writing()

        def answered(content: Manifest) -> None:
            write.answered = content["metadata"]["resourceVersion"]
            self.remember(content)
            if key not in self._objects:
                write.is_hushed, write.last = True, self._trim(content)

        try:
            yield answered
        finally:
            del self._writes[key]
            now = self._objects.get(key)
            if write.is_hushed and now is None:
                self._tell(self._unpacked(write.hushed) or write.last, None)
            elif write.is_hushed and now is not None and now.version != write.answered:
                self._tell(self._unpacked(write.hushed), self._unpack(now))

    def put(self, content: Manifest) -> bool:
        """Take a statement that the object is so. Returns whether it was news: False when something later is known."""
        return not self.is_buried(content) and self._put(content, tell=True)

    def bury(self, content: Manifest) -> bool:
        """Take a statement that this object, by its uid, is deleted; a namesake stays. Returns whether it was known."""
        uid = content["metadata"]["uid"]
        self._buried[uid] = content["metadata"]["resourceVersion"]
        self._buried.move_to_end(uid)
        while len(self._buried) > _BURIED:
            self._buried.popitem(last=False)
        key = key_of(content)
        old = self._objects.get(key)
        if old is None or old.uid != uid or not self._is_buried(uid, old.version):
            return False
        self._drop(key)
        return True

    def is_buried(self, content: Manifest) -> bool:
        """Tell whether a deletion of this object was told, and nothing later; one that a list only lacked was not told."""
        return self._is_buried(content["metadata"]["uid"], content["metadata"]["resourceVersion"])

    def prune(self, *, seen: set[Key], version: str, namespace: str) -> int:
        """Drop what a list at `version` did not show; an empty namespace means that it was of all.

        What is newer than the list was made after it and stays. Returns how many were dropped.
        """
        self._listed_at[namespace] = version
        gone = [
            key
            for key, stored in self._objects.items()
            if key not in seen and namespace in ("", key.namespace) and is_newer(version, stored.version)
        ]
        for key in gone:
            self._drop(key)
        return len(gone)

    def _is_buried(self, uid: str, version: str) -> bool:
        buried_at = self._buried.get(uid)
        return buried_at is not None and not is_newer(version, buried_at)

    def _is_missed(self, content: Manifest) -> bool:
        """Tell whether an object that we do not hold was made and deleted before the last list: no event will say so."""
        key = key_of(content)
        listed = self._listed_at.get(key.namespace) or self._listed_at.get("")
        return (
            key not in self._objects
            and listed is not None
            and not is_newer(content["metadata"]["resourceVersion"], listed)
        )

    def _put(self, content: Manifest, *, tell: bool) -> bool:
        key = key_of(content)
        version: str = content["metadata"]["resourceVersion"]
        uid: str = content["metadata"]["uid"]
        old = self._objects.get(key)
        if old is not None and not is_newer(version, old.version):
            return False
        if old is not None and old.uid != uid:
            self._drop(key)  # deleted and made again while we looked away: whoever counts on the old one must hear it
            old = None
        trimmed = self._trim(content)
        metadata = {name: value for name, value in trimmed["metadata"].items() if name != "resourceVersion"}
        text = orjson.dumps({**trimmed, "metadata": metadata}, option=_SORTED)
        same = old is not None and self._packing.unpack(old.packed) == text
        if old is not None and same:
            new = _Stored(version, old.uid, old.packed, old.filed)
        else:
            filed = tuple(tuple(index.values_of(trimmed)) for index in self._indexes.values())
            new = _Stored(version, uid, self._packing.pack(text), filed)
            self._file(key, old, new)
        self._objects[key] = new
        if tell and (self._by_version or not same):
            self._changed(key, old, new)
        return True

    def _drop(self, key: Key) -> None:
        old = self._objects.pop(key)
        self._file(key, old, None)
        self._changed(key, old, None)

    def _changed(self, key: Key, old: _Stored | None, new: _Stored | None) -> None:
        if self._on_seen is not None:
            self._on_seen(self._unpacked(old), self._unpacked(new))
        write = self._writes.get(key)
        if write is None:
            self._tell(self._unpacked(old), self._unpacked(new))
            return
        if not write.is_hushed:
            write.is_hushed, write.hushed = True, old
        if new is None:
            write.last = self._unpacked(old)

    def _tell(self, old: Manifest | None, new: Manifest | None) -> None:
        if self._on_change is not None:
            self._on_change(old, new)

    def _file(self, key: Key, old: _Stored | None, new: _Stored | None) -> None:
        for position, index in enumerate(self._indexes.values()):
            before = old.filed[position] if old is not None else ()
            index.move(key, before, new.filed[position] if new is not None else ())

    def _unpack(self, stored: _Stored) -> Manifest:
        content: Manifest = orjson.loads(self._packing.unpack(stored.packed))
        content["metadata"]["resourceVersion"] = stored.version
        return content

    def _unpacked(self, stored: _Stored | None) -> Manifest | None:
        return self._unpack(stored) if stored is not None else None
