"""What the demo's group did, partition by partition: nothing skipped, what came twice, and who took over when. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupVerdict:
    """`skipped`: acknowledged, but processed by nobody. `repeated`: processed twice, which is right only for what the
    killed consumer had not committed; `odd`: processed twice for no such reason, or with a gap inside."""

    processed: int
    skipped: int
    repeated: int
    odd: int
    takeover_s: float | None

    @property
    def ok(self) -> bool:
        return self.processed > 0 and not self.skipped and not self.odd and self.takeover_s is not None


class Shares:
    """Members are numbered from 1."""

    def __init__(self, partitions: int) -> None:
        self._times = [bytearray() for _ in range(partitions)]
        self._owned: dict[int, frozenset[int]] = {}
        self._orphans: frozenset[int] = frozenset()
        self._killed_s = 0.0
        self._victim = 0
        self._odd = 0
        self.processed = 0
        self.repeated = 0
        self.takeover_s: float | None = None

    def on_owned(self, member: int, partitions: list[int], now_s: float) -> None:
        """A member says what it owns."""
        self._owned[member] = frozenset(partitions)
        if self._victim and self.takeover_s is None:
            living = frozenset().union(*(owned for who, owned in self._owned.items() if who != self._victim))
            if self._orphans <= living:
                self.takeover_s = now_s - self._killed_s

    def on_processed(self, partition: int, first: int, last: int, count: int) -> None:
        """A member says that it has worked through these offsets, which nothing compacts: no gap belongs there."""
        times = self._times[partition]
        times.extend(bytes(max(0, last + 1 - len(times))))
        self._odd += last + 1 - first - count
        for offset in range(first, last + 1):
            if times[offset]:
                self.repeated += 1
                self._odd += partition not in self._orphans
            else:
                self.processed += 1
            times[offset] = 1

    def most_loaded(self) -> int:
        """The member that owns most, 0 if nobody owns anything: the one whose death matters."""
        return max((m for m, owned in self._owned.items() if owned), key=lambda m: (len(self._owned[m]), -m), default=0)

    def owned_by(self, member: int) -> list[int]:
        return sorted(self._owned.get(member, frozenset()))

    def everything_owned_by(self, members: int) -> bool:
        """Whether so many members share all partitions."""
        sharing = [owned for owned in self._owned.values() if owned]
        return len(sharing) == members and sum(map(len, sharing)) == len(self._times)

    def on_killed(self, member: int, now_s: float) -> None:
        self._victim, self._killed_s, self._orphans = member, now_s, self._owned[member]

    def verdict(self, ends: list[int]) -> GroupVerdict:
        """Where things stand; `ends` are the partitions' ends."""
        skipped = sum(end - sum(times[:end]) for end, times in zip(ends, self._times, strict=True))
        return GroupVerdict(self.processed, skipped, self.repeated, self._odd, self.takeover_s)
