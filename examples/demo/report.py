"""The demo's last words."""

from dataclasses import dataclass

from examples.demo.ledger import Verdict


@dataclass(frozen=True)
class Outage:
    """What the kill did: the longest time without an acknowledgement in one partition that overlaps it."""

    victim: int
    pause_s: float
    pause_partition: int
    back_after_s: float


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


def text(verdict: Verdict, outage: Outage | None, health: Health, seconds: float) -> str:
    """The report. Every number is counted on the client's side, by event."""
    lines = [
        f"sent          {verdict.sent:>9,} events in {seconds:.1f} s",
        f"acknowledged  {verdict.acknowledged:>9,} by all in-sync replicas",
        f"read          {verdict.read:>9,}",
        f"lost          {verdict.lost:>9,}",
        f"duplicated    {verdict.duplicated:>9,}",
        f"changed       {verdict.changed:>9,}",
        f"misplaced     {verdict.misplaced:>9,} (not at the offset that the acknowledgement named)",
        f"out of order  {verdict.out_of_order:>9,}",
    ]
    if outage is not None:
        lines.append(
            f"longest pause {outage.pause_s:>8.2f} s between acknowledgements of one partition "
            f"({outage.pause_partition}) around the kill of node {outage.victim}"
        )
        lines.append(f"node {outage.victim} back after {outage.back_after_s:.1f} s")
    lines.append(
        f"cluster       {health.nodes_up} of {health.nodes} nodes up, "
        f"{health.partitions_in_sync} of {health.partitions} partitions with all replicas in sync"
    )
    lines.append("Every acknowledged event was read, in order." if verdict.ok and health.ok else "NOT GOOD: see above.")
    return "\n".join(lines)
