"""The demo's last words."""

from dataclasses import dataclass
from typing import Final

from examples.demo.ledger import Ledger
from examples.demo.shares import GroupVerdict

# A pause that begins later than this after the kill has another reason.
_AFTERMATH_S: Final = 10.0


@dataclass(frozen=True)
class Kill:
    """Which node was killed, when by the monotonic clock, and how long its start took."""

    victim: int
    at_s: float
    start_took_s: float


@dataclass(frozen=True)
class Health:
    """The cluster at the end."""

    nodes_up: int
    nodes: int
    partitions_in_sync: int
    partitions: int

    @property
    def ok(self) -> bool:
        return self.nodes_up == self.nodes and self.partitions_in_sync == self.partitions


def text(
    ledger: Ledger, kill: Kill | None, group: GroupVerdict | None, consumer: int, health: Health, seconds: float
) -> str:
    """The report. Every number is counted on the client's side, event by event."""
    verdict = ledger.verdict()
    lines = [
        f"sent           {verdict.sent:>9,} events in {seconds:.1f} s",
        f"acknowledged   {verdict.acknowledged:>9,} by all in-sync replicas",
        f"read           {verdict.read:>9,}",
        f"lost           {verdict.lost:>9,} acknowledged, but not read",
        f"duplicated     {verdict.duplicated:>9,}",
        f"out of order   {verdict.out_of_order:>9,} within a partition",
        f"changed        {verdict.changed:>9,} by their checksum",
        f"misplaced      {verdict.misplaced:>9,} not at the offset that was acknowledged",
    ]
    if kill is not None:
        lines.append(f"killed         node {kill.victim}; it was ready again {kill.start_took_s:.1f} s after its start")
        pause = ledger.longest_pause(kill.at_s, kill.at_s + _AFTERMATH_S)
        if pause is not None:
            seconds, partition = pause
            lines.append(f"longest pause  {seconds:>9.2f} s between acknowledgements, in partition {partition}")
    lines.append(
        f"cluster        {health.nodes_up} of {health.nodes} nodes up, "
        f"{health.partitions_in_sync} of {health.partitions} partitions with all replicas in sync"
    )
    if group is not None:
        took = "never" if group.takeover_s is None else f"{group.takeover_s:.2f} s after the kill"
        lines += [
            f"group          {group.processed:>9,} events by 3 consumers; consumer {consumer} was killed",
            f"skipped        {group.skipped:>9,} by the group",
            f"repeated       {group.repeated:>9,} which the killed consumer had not committed",
            f"unexplained    {group.odd:>9,} repeated or missing for another reason",
            f"taken over     its partitions had new owners {took}",
        ]
    good = verdict.ok and health.ok and group is not None and group.ok
    lines.append(
        "Every acknowledged event was read, once and in order; the group skipped none."
        if good
        else "This is not as it should be."
    )
    return "\n".join(lines)
