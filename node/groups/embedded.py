"""What consumers of the classic protocol say to each other, opaque to the coordinator, where it can be read. Pure."""

from struct import Struct
from struct import error as StructError

_INT16 = Struct(">h")
_INT32 = Struct(">i")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 2  # behind the version

    def count(self, least: int) -> int:
        (count,) = _INT32.unpack_from(self._data, self._at)
        self._at += 4
        if not 0 <= count <= (len(self._data) - self._at) // least:
            raise ValueError(f"{count} elements")
        return int(count)

    def name(self) -> str:
        (size,) = _INT16.unpack_from(self._data, self._at)
        self._at += 2 + size
        if size < 0 or self._at > len(self._data):
            raise ValueError(f"a name of {size} bytes")
        return self._data[self._at - size : self._at].decode()

    def numbers(self) -> list[int]:
        count = self.count(4)
        self._at += 4 * count
        return [number for (number,) in _INT32.iter_unpack(self._data[self._at - 4 * count : self._at])]


def subscribed(data: bytes) -> list[str] | None:
    """The topics of a consumer's subscription; None where it is none."""
    reader = _Reader(data)
    try:
        return [reader.name() for _ in range(reader.count(2))]
    except (ValueError, StructError):
        return None


def assigned(data: bytes) -> list[tuple[str, int]]:
    """The partitions of a consumer's assignment, as far as it is one."""
    reader = _Reader(data)
    found = []
    try:
        for _ in range(reader.count(6)):
            name = reader.name()
            found += [(name, number) for number in reader.numbers()]
    except (ValueError, StructError):
        return []
    return found
