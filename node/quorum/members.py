"""Who belongs to the cluster, how it came about, and who is dead.

Until there is a cluster this forms one, unanimously (`node.quorum.formation`), or joins the one that a peer belongs to.
From then on it passes messages to the quorum and judges who is dead (protocol.md 5). Control loop only.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from node.quorum.disk import FATAL
from node.quorum.formation import Bootstrap
from node.quorum.links import Links
from node.quorum.store import Formation, QuorumStore
from node.quorum.wire import from_proto, peer_from_proto, peer_to_proto, peers_from_proto, peers_to_proto
from node.transport import PLAIN, Transport
from ottla.internal.v1 import raft_pb2 as pb
from raft.messages import Message
from raft.model import PeerId
from storage.directory import LogDirectory
from storage.errors import CorruptFile

log = structlog.get_logger(__name__)

_FORMATION_RETRY_S: Final = 0.5
_WAITING_LOG_EVERY: Final = 10
_REPORTS_MAX: Final = 256
"""Members that are remembered as lost. Reports count about these and those that are here: whoever names others fills
nothing."""


class MemberListener(Protocol):
    """The quorum, as its members need it."""

    @property
    def voter_count(self) -> int:
        """How many members vote; 0 before there is a cluster."""

    def on_cluster(self) -> None:
        """The cluster is known, durably. Raises what makes the disk unusable."""

    def on_formed(self) -> None:
        """This node has just formed the cluster: all voters are there, and nobody leads."""

    def on_message(self, message: Message, *, dialled: bool) -> None:
        """`dialled`: the sender is at an address that this node knows."""

    def on_connected(self, peer: PeerId) -> None: ...
    def on_dead(self, peer: PeerId) -> None: ...
    def on_alive(self, peer: PeerId) -> None: ...
    def on_failure(self, error: BaseException) -> None: ...


class Members:
    """See the module. `links` carries everything."""

    def __init__(
        self,
        me: PeerId,
        configured: Mapping[int, str],
        directory: LogDirectory,
        store: QuorumStore,
        listener: MemberListener,
        transport: Transport = PLAIN,
    ) -> None:
        """`configured`: control addresses of the initial voters, by node id."""
        self.links = Links(self, transport)
        self._transport = transport
        self._me = me
        self._configured = configured
        self._directory = directory
        self._store = store
        self._listener = listener
        self._bootstrap: Bootstrap | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rounds = 0
        self._unformed: dict[int, PeerId] = {}
        self._lost: dict[PeerId, None] = {}
        """In the order of their loss: who only came by must not pile up."""
        self._lost_by: dict[PeerId, set[PeerId]] = {}
        self._dead: set[PeerId] = set()

    def start(self) -> None:
        """Dial everybody; take part in the cluster this disk belongs to, or in forming one. Raises CorruptFile."""
        for node_id, address in self._configured.items():
            if node_id != self._me.node_id:
                self.links.dial(node_id, (address,))
        cluster_id, formation = self._directory.cluster_id, self._store.formation
        if cluster_id is None:
            self._bootstrap = Bootstrap(self._me, tuple(self._configured), formation, self._transport.cluster_id)
            self._form()
        elif formation is None or formation.cluster_id != cluster_id:
            raise CorruptFile(
                f"{self._directory.path} belongs to cluster {cluster_id.hex()}, but its quorum directory does not: "
                "restore it, or empty the whole data directory to join as a new replica"
            )
        else:
            self._listener.on_cluster()

    async def stop(self) -> None:
        """End all streams."""
        if self._timer is not None:
            self._timer.cancel()
        self._bootstrap = None
        await self.links.stop()

    # --- streams (LinkListener)

    def hello(self, to_node_id: int) -> pb.RaftHello:
        """Who this node is."""
        hello = pb.RaftHello(sender=peer_to_proto(self._me), to_node_id=to_node_id)
        if self._directory.cluster_id is not None and self._store.formation is not None:
            hello.cluster_id = self._directory.cluster_id
            hello.first_voters.extend(peers_to_proto(self._store.formation.voters))
        return hello

    def admit(self, hello: pb.RaftHello) -> pb.RaftHello | None:
        """Refuse who is not of this cluster, or meant somebody else; join the cluster of who is of one."""
        sender, mine = peer_from_proto(hello.sender), self._directory.cluster_id
        if hello.to_node_id != self._me.node_id:
            return self._refusal(f"this is node {self._me.node_id}, not node {hello.to_node_id}")
        if sender.node_id == self._me.node_id:
            return self._refusal(f"there are two nodes {self._me.node_id}: give one another node.id")
        if sender.node_id < 1 or len(sender.directory_id) != 16 or len(hello.cluster_id) not in (0, 16):
            return self._refusal("a sender has a positive node id and a directory id of 16 bytes")
        if hello.cluster_id and mine is not None and hello.cluster_id != mine:
            text = (
                f"INCONSISTENT_CLUSTER_ID: node {sender.node_id} belongs to cluster {hello.cluster_id.hex()}, "
                f"node {self._me.node_id} to cluster {mine.hex()}; check the addresses and data.dir"
            )
            log.warning("quorum_inconsistent_cluster_id", peer=sender.node_id, reason=text)
            return self._refusal(text, inconsistent_cluster_id=True)
        wanted = self._transport.cluster_id
        if hello.cluster_id and wanted is not None and hello.cluster_id != wanted:
            return self._refusal(
                f"INCONSISTENT_CLUSTER_ID: node {sender.node_id} belongs to cluster {hello.cluster_id.hex()}, the "
                f"certificate of node {self._me.node_id} is for {wanted.hex()}",
                inconsistent_cluster_id=True,
            )
        if not hello.cluster_id:
            self._unformed[sender.node_id] = sender
        else:
            self._unformed.pop(sender.node_id, None)
            if mine is None:
                self._adopt(Formation(hello.cluster_id, peers_from_proto(hello.first_voters)))
        return None

    def _refusal(self, text: str, *, inconsistent_cluster_id: bool = False) -> pb.RaftHello:
        return pb.RaftHello(
            sender=peer_to_proto(self._me), refusal=text, inconsistent_cluster_id=inconsistent_cluster_id
        )

    def on_connected(self, peer: PeerId) -> None:
        """A first stream with `peer` stands."""
        self._lost.pop(peer, None)
        self._tell_gone(peer, gone=False)
        for lost in self._lost:
            self.links.send(peer, pb.RaftFrame(peer_gone=pb.RaftPeerGone(peer=peer_to_proto(lost), gone=True)))
        self._listener.on_connected(peer)
        if peer in self._dead:
            self._dead.discard(peer)
            log.info("quorum_peer_alive", node_id=peer.node_id)
            self._listener.on_alive(peer)
        if self._bootstrap is None and self._unformed.get(peer.node_id) == peer:
            # Its hello crossed the forming of the cluster: ours did not say yet that there is one.
            self._tell_formed((peer,))
        self._form()

    def on_lost(self, peer: PeerId) -> None:
        """All streams with `peer` have ended; what it said about others no longer counts."""
        self._unformed.pop(peer.node_id, None)
        self._lost[peer] = None
        self._lost_by = {about: left for about, by in self._lost_by.items() if (left := by - {peer})}
        if len(self._lost) > _REPORTS_MAX:
            oldest = next(iter(self._lost))
            del self._lost[oldest]
            self._dead.discard(oldest)
            self._lost_by.pop(oldest, None)
        self._tell_gone(peer, gone=True)
        self._judge(peer)

    def on_frame(self, peer: PeerId, frame: pb.RaftFrame, *, dialled: bool) -> None:
        """One frame of `peer`."""
        match frame.WhichOneof("frame"):
            case "message":
                message = from_proto(frame.message)
                if message is not None and message.sender == peer:
                    self._listener.on_message(message, dialled=dialled)
            case "formation":
                self._on_formation(peer, frame.formation)
            case "peer_gone":
                about = peer_from_proto(frame.peer_gone.peer)
                if not frame.peer_gone.gone:
                    self._lost_by.get(about, set()).discard(peer)
                elif about in self._lost or self.links.knows(about):
                    self._lost_by.setdefault(about, set()).add(peer)
                    self._judge(about)
            case _:
                pass

    # --- who is dead

    def _tell_gone(self, about: PeerId, *, gone: bool) -> None:
        frame = pb.RaftFrame(peer_gone=pb.RaftPeerGone(peer=peer_to_proto(about), gone=gone))
        for peer in self.links.connected:
            if peer != about:
                self.links.send(peer, frame)

    def _judge(self, peer: PeerId) -> None:
        """Dead: all its streams ended here and, with three voters or more, at one other member too."""
        if peer not in self._lost or peer in self._dead:
            return
        if self._listener.voter_count >= 3 and not self._lost_by.get(peer):
            return
        self._dead.add(peer)
        log.info("quorum_peer_dead", node_id=peer.node_id)
        self._listener.on_dead(peer)

    # --- the first cluster

    def _form(self) -> None:
        """Take the next step towards a first cluster, if it is this node's to take; again after a while.

        What is synced here blocks the loop: there is nothing else to do before a cluster exists.
        """
        bootstrap = self._bootstrap
        if bootstrap is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_FORMATION_RETRY_S, self._form)
        present = {i: peer for i, peer in self._unformed.items() if peer in self.links.connected}
        missing = bootstrap.missing(present)
        if missing and self._rounds % _WAITING_LOG_EVERY == 0:
            where = [f"{i} at {self._configured[i]}" for i in missing]
            log.info("quorum_waits_for_initial_voters", missing=where)
        self._rounds += 1
        proposal = bootstrap.proposal(present, self._transport.cluster_id or secrets.token_bytes(16))
        if proposal is None or not self._keep(proposal):
            return
        if bootstrap.all_accepted:
            self._formed(proposal)
        else:
            self._tell_formation(pb.RAFT_FORMATION_STEP_PROPOSED, proposal, proposal.voters)

    def _on_formation(self, peer: PeerId, step: pb.RaftFormation) -> None:
        formation = Formation(step.cluster_id, peers_from_proto(step.voters))
        bootstrap = self._bootstrap
        if bootstrap is None:
            if step.step == pb.RAFT_FORMATION_STEP_PROPOSED:
                self._tell_formed((peer,))  # a proposer that restarted learns that it exists already
            return
        match step.step:
            case pb.RAFT_FORMATION_STEP_PROPOSED:
                refusal = bootstrap.refusal(peer, formation)
                if refusal is not None:
                    log.error("quorum_proposal_refused", proposer=peer.node_id, reason=refusal)
                elif self._keep(formation):
                    bootstrap.prepared = formation
                    self._tell_formation(pb.RAFT_FORMATION_STEP_ACCEPTED, formation, (peer,))
            case pb.RAFT_FORMATION_STEP_ACCEPTED:
                if bootstrap.proposes and bootstrap.accepted(peer, formation):
                    self._formed(formation)
            case pb.RAFT_FORMATION_STEP_FORMED:
                self._adopt(formation)
            case _:
                pass

    def _keep(self, formation: Formation) -> bool:
        """Sync the formation if it is not on disk yet."""
        try:
            if self._store.formation != formation:
                self._store.keep_formation(formation)
        except FATAL as error:
            self._listener.on_failure(error)
            return False
        return True

    def _formed(self, formation: Formation) -> None:
        """Every initial voter has synced the proposal: it is a cluster from here on."""
        log.info("quorum_formed", cluster_id=formation.cluster_id.hex(), voters=[str(v) for v in formation.voters])
        if self._enter(formation):
            self._listener.on_formed()

    def _adopt(self, formation: Formation) -> None:
        """Become a part of a cluster that exists: one this node helped to form, or as an observer of any other."""
        sound = len(formation.cluster_id) == 16 and bool(formation.voters)
        sound = sound and self._transport.cluster_id in (None, formation.cluster_id)
        if sound and self._bootstrap is not None and self._keep(formation):
            self._enter(formation)

    def _enter(self, formation: Formation) -> bool:
        self._bootstrap = None
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._directory.set_cluster_id(formation.cluster_id)
            self._listener.on_cluster()
        except FATAL as error:
            self._listener.on_failure(error)
            return False
        self._tell_formed([peer for peer in self.links.connected if self._unformed.get(peer.node_id) == peer])
        return True

    def _tell_formed(self, to: Sequence[PeerId]) -> None:
        """Who is connected and belongs to no cluster learns of this one: voters that wait, and observers."""
        if self._store.formation is not None:
            self._tell_formation(pb.RAFT_FORMATION_STEP_FORMED, self._store.formation, to)

    def _tell_formation(self, step: pb.RaftFormationStep.ValueType, formation: Formation, to: Sequence[PeerId]) -> None:
        frame = pb.RaftFrame(
            formation=pb.RaftFormation(
                step=step, cluster_id=formation.cluster_id, voters=peers_to_proto(formation.voters)
            )
        )
        for peer in to:
            if peer != self._me:
                self.links.send(peer, frame)
