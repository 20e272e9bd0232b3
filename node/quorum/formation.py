"""How the first cluster comes about: unanimously, once, and never beside one that exists (protocol.md 4).

Decisions only; `node.quorum.members` syncs and sends. Only the lowest configured id proposes. Every initial voter must
be there with an empty disk and sync the proposal; then the cluster is formed, and only then elections begin.
"""

from collections.abc import Mapping

from node.quorum.store import Formation
from raft.model import PeerId


class Bootstrap:
    """One node on its way to a first cluster. `prepared`: the proposal this node has synced."""

    def __init__(
        self, me: PeerId, configured: tuple[int, ...], prepared: Formation | None, only: bytes | None = None
    ) -> None:
        """`configured`: the ids of `controller.quorum.voters`. `only`: the one cluster id that certificates name."""
        self.me = me
        self.configured = tuple(sorted(configured))
        self.prepared = prepared
        self._only = only
        self._accepted: set[PeerId] = set()

    @property
    def proposes(self) -> bool:
        """Whether this node is the one that proposes."""
        return bool(self.configured) and self.me.node_id == self.configured[0]

    def missing(self, present: Mapping[int, PeerId]) -> list[int]:
        """Return the initial voters that are not connected; `present` are connected nodes without a cluster, by id."""
        return [i for i in self.configured if i != self.me.node_id and i not in present]

    def proposal(self, present: Mapping[int, PeerId], new_cluster_id: bytes) -> Formation | None:
        """Return what to propose now, or None: not this node's task, or somebody is missing.

        A proposal that was synced before a restart is made again, unless a disk was replaced meanwhile or
        certificates name another cluster now.
        """
        if not self.proposes or self.missing(present):
            return None
        voters = tuple(self.me if i == self.me.node_id else present[i] for i in self.configured)
        fits = self.prepared is not None and self._only in (None, self.prepared.cluster_id)
        if self.prepared is None or self.prepared.voters != voters or not fits:
            self.prepared = Formation(new_cluster_id, voters)
            self._accepted.clear()
        self._accepted.add(self.me)
        return self.prepared

    def refusal(self, sender: PeerId, proposal: Formation) -> str | None:
        """Return why this node does not accept the proposal of `sender`; None: sync it and accept."""
        ids = tuple(voter.node_id for voter in proposal.voters)
        if ids != self.configured:
            return f"voters {list(ids)} are proposed, but controller.quorum.voters here names {list(self.configured)}"
        if sender.node_id != self.configured[0]:
            return f"only node {self.configured[0]} may propose, not node {sender.node_id}"
        if self.me not in proposal.voters:
            return f"the proposal names another directory of node {self.me.node_id}"
        if len(proposal.cluster_id) != 16:
            return f"a cluster id has 16 bytes, not {len(proposal.cluster_id)}"
        if self._only not in (None, proposal.cluster_id):
            return (
                f"cluster {proposal.cluster_id.hex()} is proposed, the certificate is for {(self._only or b'').hex()}"
            )
        return None

    def accepted(self, sender: PeerId, formation: Formation) -> bool:
        """Note that `sender` has synced the proposal; True once every initial voter has."""
        if formation == self.prepared and sender in formation.voters:
            self._accepted.add(sender)
        return self.all_accepted

    @property
    def all_accepted(self) -> bool:
        """Whether every initial voter has synced the proposal."""
        return self.prepared is not None and self._accepted == set(self.prepared.voters)
