"""What a program may do when its group's partitions move."""

from collections.abc import Sequence

from ottla.client.records import TopicPartition


class RebalanceListener:
    """Override what you need and pass it to Consumer. One call at a time, none of the partitions handed out meanwhile.

    A call that takes long holds up this member's next move, never its membership. What it raises ends the iteration.
    """

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """These are this member's now. `seek` and `position` work; the first record comes when this returns."""

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These go to another member when this returns, or the consumer closes. They are still this member's: finish
        what is under way, `commit`. Auto commit stores what was processed right afterwards."""

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These are another member's already: this one was silent for too long. A commit would be refused."""
