VERSION: int

def walk(
    data: bytes | bytearray | memoryview, count_max: int, earliest: int, latest: int, keys_required: bool, /
) -> tuple[int, int, int, int, list[tuple[int, int]]]: ...
def find(
    data: bytes | bytearray | memoryview, offset_from: int, time_from: int, /
) -> tuple[int, int, int, int] | None: ...
def cut(
    data: bytes | bytearray | memoryview, at: int, place: int, room: int, /
) -> tuple[int, int, int, int, bool, bool]: ...
