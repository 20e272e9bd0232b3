"""Streams of members on this node: what each is to be told."""

import asyncio

from ottla.protocol.errors import ApiError
from ottla.v1 import group_pb2


class Session:
    """One member's stream on this node: what it is to be told. An assignment replaces those before it, so of what a
    slow reader has not taken yet only the newest is kept. Whoever ends the stream says why: some libraries need an end
    of the client's side, too, before they notice."""

    def __init__(self, session_id: int) -> None:
        self.id = session_id
        self.joined: asyncio.Future[None] | None = None
        """The join is in the log, or the log refused it."""
        self._next: group_pb2.SessionResponse | None = None
        self._is_last = False
        self._news = asyncio.Event()

    def tell(self, response: group_pb2.SessionResponse, *, is_last: bool = False) -> None:
        """What was told before and not taken yet is replaced; nothing comes after the last word."""
        if not self._is_last:
            self._next, self._is_last = response, is_last
            self._news.set()

    def end(self, error: ApiError) -> None:
        """The last word."""
        self.tell(group_pb2.SessionResponse(error=error.to_proto()), is_last=True)

    async def next(self) -> group_pb2.SessionResponse | None:
        """What is to be told; None when everything was."""
        while self._next is None and not self._is_last:
            self._news.clear()
            await self._news.wait()
        response, self._next = self._next, None
        return response
