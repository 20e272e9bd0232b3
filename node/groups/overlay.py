"""A mapping with changes laid over it: read as if they were made, and made by `land`. Costs what is touched."""

from collections.abc import Iterator, Mapping, MutableMapping
from enum import Enum
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class _Mark(Enum):
    GONE = 1
    UNTOUCHED = 2


class Overlay(MutableMapping[K, V]):
    """`base` must not change while this is read."""

    __slots__ = ("_base", "_size", "_touched")

    def __init__(self, base: MutableMapping[K, V]) -> None:
        self._base = base
        self._touched: dict[K, V | _Mark] = {}
        self._size = len(base)

    def __getitem__(self, key: K) -> V:
        value = self._touched.get(key, _Mark.UNTOUCHED)
        if value is _Mark.UNTOUCHED:
            return self._base[key]
        if value is _Mark.GONE:
            raise KeyError(key)
        assert not isinstance(value, _Mark)
        return value

    def get(self, key: K, default: D | None = None) -> V | D | None:  # type: ignore[override]
        value = self._touched.get(key, _Mark.UNTOUCHED)
        if value is _Mark.UNTOUCHED:
            return self._base.get(key, default)
        return default if isinstance(value, _Mark) else value

    def __contains__(self, key: object) -> bool:
        value = self._touched.get(key, _Mark.UNTOUCHED)  # type: ignore[arg-type]
        return key in self._base if value is _Mark.UNTOUCHED else value is not _Mark.GONE

    def __setitem__(self, key: K, value: V) -> None:
        self._size += key not in self
        self._touched[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._size -= 1
        self._touched[key] = _Mark.GONE

    def __iter__(self) -> Iterator[K]:
        touched = self._touched
        if not touched:
            yield from self._base
            return
        for key in self._base:
            if touched.get(key) is not _Mark.GONE:
                yield key
        for key, value in touched.items():
            if value is not _Mark.GONE and key not in self._base:
                yield key

    def __len__(self) -> int:
        return self._size

    def touched(self) -> Mapping[K, object]:
        """What was set or deleted since."""
        return self._touched

    def land(self) -> None:
        """The changes are made."""
        for key, value in self._touched.items():
            if isinstance(value, _Mark):
                self._base.pop(key, None)
            else:
                self._base[key] = value
        self._touched.clear()
