"""What a fetch stream makes of bytes that are no answer."""

from typing import Any

from ottla.client.fetch_stream import FetchStream
from ottla.client.settings import ConsumerSettings


async def test_a_damaged_answer_ends_the_stream_and_not_the_consumer() -> None:
    """An answer is a slice of the leader's log: a bit that rotted between two batches makes it no message at all."""
    given: list[Any] = []
    stream = FetchStream(1, None, ConsumerSettings(), lambda *results: given.append(results))  # type: ignore[arg-type]
    assert stream._take(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01") is False
    assert given == []
