"""How far groups are behind, in records and in time, with or without live members (KIP-848 leaves that to clients).

The coordinator has the positions, the partitions' leaders have the ends and the times of records.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from node import limits
from node.api.view import ClusterView
from node.groups.assign import TopicPartition
from node.groups.model import Group
from node.groups.shell import GroupShell
from node.services.positions import Positions

KEPT_S: Final = 0.5
"""Scrapes within this time share one look."""


class Lag(NamedTuple):
    """One partition of a group. `ms`: the age of the first unread record."""

    high_watermark: int
    records: int
    ms: int


class LagSample(NamedTuple):
    """One line of the metrics."""

    group: str
    topic: str
    partition: int
    lag: Lag


class GroupLags:
    """Looks up the lag of the groups that this node coordinates."""

    def __init__(
        self, shell: GroupShell, view: ClusterView, positions: Positions, on_unlisted: Callable[[int], None]
    ) -> None:
        self._shell = shell
        self._view = view
        self._positions = positions
        self._on_unlisted = on_unlisted
        self._kept: tuple[LagSample, ...] = ()
        self._kept_until_s = 0.0

    async def of(self, groups: Iterable[Group], timeout_s: float) -> dict[str, dict[TopicPartition, Lag]]:
        """By group and partition; those whose leader does not answer in time are left out. A partition that a member
        owns and nobody has committed counts from its beginning."""
        wanted: dict[tuple[str, TopicPartition], tuple[bytes, int, int]] = {}
        for group in groups:
            for at in group.offsets.keys() | group.owners.keys():
                committed = group.offsets.get(at)
                wanted[group.group_id, at] = (*at, 0 if committed is None else committed.offset)
        facts = await self._positions.look_up(dict.fromkeys(wanted.values()), timeout_s)
        now_ms = self._shell.wall_ms()
        lags: dict[str, dict[TopicPartition, Lag]] = {}
        for (group_id, at), position in wanted.items():
            if (found := facts.get(position)) is None:
                continue
            records = max(0, found.high_watermark - max(found.log_start, position[2]))
            since_ms = now_ms if found.written_ms is None or not records else found.written_ms
            lags.setdefault(group_id, {})[at] = Lag(found.high_watermark, records, max(0, now_ms - since_ms))
        return lags

    async def samples(self, timeout_s: float) -> tuple[LagSample, ...]:
        """Of the groups that are coordinated here, up to a bound, for the metrics."""
        if time.monotonic() >= self._kept_until_s:
            active = [shard.coordinator for shard in self._shell.shards() if shard.coordinator is not None]
            groups, unlisted = listed([group for coordinator in active for group in coordinator.groups()])
            self._on_unlisted(unlisted)
            lags = await self.of(groups, timeout_s)
            topics = self._view.image.topics
            self._kept = tuple(
                LagSample(group_id, topics[at[0]].name, at[1], lag)
                for group_id, by_partition in sorted(lags.items())
                for at, lag in sorted(by_partition.items())
                if at[0] in topics
            )
            self._kept_until_s = time.monotonic() + KEPT_S
        return self._kept


def listed(groups: list[Group]) -> tuple[list[Group], int]:
    """Those that the metrics have room for, and how many others there are. Groups with members come first, then the
    others, by id and each as a whole."""
    chosen: list[Group] = []
    room = limits.GROUP_LAGS_MAX
    for group in sorted(groups, key=lambda group: (not group.members, group.group_id)):
        size = len(group.offsets.keys() | group.owners.keys())
        if size <= room:
            room -= size
            chosen.append(group)
    return chosen, len(groups) - len(chosen)
