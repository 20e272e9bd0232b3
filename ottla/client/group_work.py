"""A group member's work: what is at work, what is done, what is committed. Between the session and the reader, whose
positions are the one truth of it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ottla.client.errors import OttlaError
from ottla.client.group import Gained
from ottla.client.group_session import GroupSession
from ottla.client.reader import Reader
from ottla.client.rebalance import RebalanceListener
from ottla.client.records import Position, TopicPartition
from ottla.client.settings import ConsumerSettings
from ottla.client.tasks import Tasks

log = logging.getLogger("ottla.group")

Told = Callable[[Sequence[TopicPartition]], Awaitable[None]]


class GroupWork:
    """A record counts as processed when the next one is asked for. It is the session's `Owner`."""

    def __init__(
        self, reader: Reader, settings: ConsumerSettings, tasks: Tasks, listener: RebalanceListener | None
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._tasks = tasks
        self._listener = listener
        self._asked = asyncio.Event()
        self._is_closing = False

    # -- the user's side -------------------------------------------------------------------------------------------

    def note_processed(self) -> None:
        """The user asks for more, so what was handed out is done."""
        for state in list(self._reader.at_work):
            state.finished()
        self._asked.set()

    async def commit(self, session: GroupSession) -> None:
        """Commits what is done. Raises OttlaError: then it is tried again with the next commit."""
        states = list(self._reader.states.values())
        taken = [(state, position) for state in states if (position := state.to_commit()) is not None]
        if not taken:
            return
        for state, _ in taken:
            state.stored = None  # until the answer it is not known
        await session.commit({state.where: position for state, position in taken})
        for state, position in taken:
            state.stored = position

    async def commit_these(self, session: GroupSession, positions: Mapping[TopicPartition, Position]) -> None:
        """Commits what the user says. It holds until the position moves on. Raises OttlaError."""
        states = [self._reader.states[where] for where in positions if where in self._reader.states]
        for state in states:
            state.stored = state.done  # at once: auto commit must not follow with what is done so far
        try:
            await session.commit(positions)
        except BaseException:
            for state in states:
                state.stored = None
            raise

    async def commit_or_log(self, session: GroupSession) -> None:
        """Commits what is processed; a failure is no more than logged, since a repeat is not a loss."""
        try:
            await self.commit(session)
        except OttlaError as error:
            log.warning("could not commit: %s", error)

    async def commit_now_and_then(self, session: GroupSession) -> None:
        """A task: auto commit."""
        while True:
            await asyncio.sleep(self._settings.auto_commit_interval_ms / 1000)
            await self.commit_or_log(session)

    # -- the session's side ----------------------------------------------------------------------------------------

    async def give_back(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, Position]:
        """For the session: stops handing out, waits a session time-out at most for the record at work, and answers what
        was processed."""
        for where in partitions:
            if where in self._reader.states:
                self._reader.states[where].held = True
                self._reader.states[where].rewind()
        self._reader.wake.set()
        give_up = time.monotonic() + self._settings.session_timeout_ms / 1000
        while any(state.where in partitions for state in self._reader.at_work):
            self._asked.clear()
            try:
                async with asyncio.timeout(give_up - time.monotonic()):
                    await self._asked.wait()
            except TimeoutError:
                log.warning("a record is still at work while its partition goes to another member, which repeats it")
                break
        if self._listener is not None:
            await self._tell(self._listener.on_revoked, partitions)
        if not self._settings.enable_auto_commit:
            return {}
        states = [self._reader.states[where] for where in partitions if where in self._reader.states]
        return {state.where: position for state in states if (position := state.to_commit()) is not None}

    async def take(self, gained: list[Gained]) -> None:
        """For the session: starts reading, unless the consumer is on its way out."""
        states = []
        gained = [] if self._is_closing else gained
        for gain in gained:
            state = self._reader.add(gain.where, gain.topic_id)
            state.held = self._listener is not None
            if gain.offset is not None:
                state.begin(gain.offset, gain.leader_epoch)
            elif gain.is_new_partition:
                state.begin(0)
                state.is_new = True
            states.append(state)
        if self._listener is not None and states:
            await self._tell(self._listener.on_assigned, [state.where for state in states])
            for state in states:
                state.held = self._is_closing
        self._reader.wake.set()
        self._reader.news.set()

    def lose(self, partitions: list[TopicPartition]) -> None:
        """For the session: stops reading at once."""
        for where in partitions:
            if where in self._reader.states:
                self._reader.drop(where)

    def robbed(self, partitions: list[TopicPartition]) -> None:
        """For the session: they are another member's already."""
        self.lose(partitions)
        if self._listener is not None and partitions:
            self._tasks.start(self._tell(self._listener.on_lost, partitions), "ottla-on-lost")

    async def closing(self) -> None:
        """The user closes the consumer: what it owns goes to others."""
        self._is_closing = True
        if self._listener is not None and self._reader.states:
            await self._tell(self._listener.on_revoked, sorted(self._reader.states))

    async def _tell(self, call: Told, partitions: list[TopicPartition]) -> None:
        """One call of the listener. Its error is for whoever reads: the move goes on. A cancellation that is not this
        task's is one of those."""
        try:
            await call(partitions)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            log.exception("the rebalance listener failed")
            self._reader.error = OttlaError(f"the rebalance listener failed: {error!r}. Next: see the log, and mend it")
            self._reader.error.__cause__ = error
            self._reader.news.set()

    def session_failed(self, error: OttlaError) -> None:
        """For the session: there is no way on."""
        self._reader.error = error
        self._reader.news.set()
