from typing import TypeVar

T = TypeVar("T", bound=tuple[object, ...])
VERSION: int

def decode(
    type: type[T],
    plain: bytes | memoryview,
    at: int,
    place: int,
    at_most: int,
    count: int,
    topic: str,
    partition: int,
    base_offset: int,
    base_timestamp: int,
    append_time: int,
    epoch: int,
    from_offset: int,
    /,
) -> tuple[list[T], int, int] | None: ...
