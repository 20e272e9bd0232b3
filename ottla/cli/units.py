"""Durations, sizes and moments as people write them, and as they read them."""

import re
from datetime import datetime
from typing import Final

from ottla.cli.failure import Failure

_MS: Final[dict[str, int]] = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES: Final[dict[str, int]] = {
    "b": 1,
    **{f"{letter}{end}": 1024**i for i, letter in enumerate("kmgt", 1) for end in ("", "ib")},
    **{f"{letter}b": 1000**i for i, letter in enumerate("kmgt", 1)},
}
# What a float has exactly, and no number is so large that it has no end.
_NUMBER: Final = r"\d{1,15}(?:\.\d{1,15})?"
_DURATION: Final = re.compile(rf"(?:{_NUMBER}(?:ms|[smhdw]))+", re.ASCII)
_PART: Final = re.compile(rf"({_NUMBER})(ms|[smhdw])", re.ASCII)
_SIZE: Final = re.compile(rf"({_NUMBER}) ?([a-z]+)", re.ASCII)
_WHOLE_DIGITS: Final = 19
"""Those of the largest number that the contract has."""


def duration_ms(text: str) -> int:
    """`5m`, `1h30m`, `1.5d`, `250ms`; a plain number is seconds, as `sleep` has it. Raises Failure."""
    words = text.strip().lower()
    if words.replace(".", "", 1).isdecimal() and words.isascii():
        words += "s"
    if not _DURATION.fullmatch(words):
        raise Failure("INVALID_REQUEST", f"{text!r} is not a duration", "write it like 30s, 5m, 1h30m or 7d")
    return round(sum(float(number) * _MS[unit] for number, unit in _PART.findall(words)))


def size_bytes(text: str) -> int:
    """`10MiB` and `10M` are 10 times 1024 times 1024, `10MB` is 10 million; a plain number is bytes. Raises Failure."""
    words = text.strip().lower()
    if words.isdecimal() and words.isascii() and len(words) <= _WHOLE_DIGITS:
        return int(words)
    found = _SIZE.fullmatch(words)
    if found is None or found[2] not in _BYTES:
        raise Failure("INVALID_REQUEST", f"{text!r} is not a size", "write it like 512KiB, 10MiB or 1GB")
    return round(float(found[1]) * _BYTES[found[2]])


def moment_ms(text: str, now_ms: int) -> int:
    """A moment in ms since 1970, the earliest there is: a date and time (local unless it says Z or +02:00), a duration
    ago such as `1h` or `-1h`, `now`, or ms since 1970 as they are (10 digits and more). Raises Failure."""
    words = text.strip()
    if words.lower() == "now":
        return now_ms
    if words.isdecimal() and words.isascii() and 10 <= len(words) <= 15:
        return int(words)
    ago = words.removeprefix("-").lower()
    if _DURATION.fullmatch(ago):
        return max(0, now_ms - duration_ms(ago))
    try:
        return max(0, int(datetime.fromisoformat(words).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise Failure(
            "INVALID_REQUEST",
            f"{text!r} is no moment",
            "write it like 2026-11-30T10:15, 2026-11-30T10:15:00Z, 15m (that long ago) or as ms since 1970",
        ) from None


def config_value(key: str, value: str) -> str:
    """The value of a setting as nodes take it: `retention.ms=7d` and `segment.bytes=64MiB` become plain numbers."""
    if value[:1].isdecimal() and value[-1:].isalpha():
        if key.endswith(".ms"):
            return str(duration_ms(value))
        if key.endswith((".bytes", ".rate")):
            return str(size_bytes(value))
    return value


def shown_ms(milliseconds: float) -> str:
    """`350 ms`, `4.2 s`, `3m 20s`, `2h 5m`, `7d`."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    left, words = int(milliseconds), []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _MS[unit])
        if count:
            words.append(f"{count}{unit}")
    return " ".join(words[:2])


def shown_bytes(count: int) -> str:
    """`812 B`, `1.5 KiB`, `64 MiB`."""
    size, unit = float(count), "B"
    for following in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, following
    return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"
