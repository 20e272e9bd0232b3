"""A node that is meant to vote asks for its seat by itself (`controller.quorum.auto.join.enable`, KIP-853's last step).

That is a node among `controller.quorum.voters` which follows without a vote: a new one, or one whose disk was replaced.
For the second its old seat is given up first, and the two are never one step. Both need a leader, which a majority
without this node keeps: so a seat that was one of two live ones is never given up by this.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from node.quorum.driver import Quorum
from ottla.protocol.errors import ApiError
from raft.model import PeerId

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
RETRY_S: Final = 5.0
NEEDED: Final = 3
"""Voters that there must be for a seat to be given up: with two the leader would be left alone."""

Change = Callable[[PeerId], Awaitable[None]]
"""Asks the active controller for a change about a voter. Raises ApiError, OSError."""


class AutoJoin:
    """See the module. Control loop only."""

    def __init__(self, quorum: Quorum, add: Change, remove: Change) -> None:
        self._quorum = quorum
        self._add = add
        self._remove = remove

    async def run(self) -> None:
        """Until cancelled. What an operator takes away from a node that had its seat is not asked for again."""
        had_seat = False
        while True:
            await asyncio.sleep(LOOK_S)
            me, voters = self._quorum.me, self._quorum.voters
            had_seat = had_seat or me in voters
            if had_seat or not voters or self._quorum.leadership.leader_id is None:
                continue
            try:
                had_seat = await self._join(me, voters)
            except (ApiError, OSError) as error:
                log.info("quorum_seat_refused", reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def _join(self, me: PeerId, voters: tuple[PeerId, ...]) -> bool:
        """The next step; whether it was the last."""
        old = [voter for voter in voters if voter.node_id == me.node_id]
        if old and len(voters) < NEEDED:
            log.warning("quorum_seat_kept", voter=str(old[0]), next_step=f"ottla cluster voter remove {me.node_id}")
            await asyncio.sleep(10 * RETRY_S)
        elif old:
            log.warning("quorum_seat_given_up", voter=str(old[0]), reason="this node has another disk now")
            await self._remove(old[0])
        else:
            await self._add(me)
            log.info("quorum_seat_taken", voter=str(me))
            return True
        return False
