"""One cluster or none, in every order of starts, losses and restarts."""

import random

import pytest

from node.quorum.formation import Bootstrap
from node.quorum.store import Formation
from raft.model import PeerId

PEERS = {i: PeerId(i, bytes([i]) * 16) for i in (1, 2, 3)}


class Party:
    """Three nodes that form a cluster; what they sync is `synced`, what they know to exist is `formed`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.synced: dict[int, Formation | None] = dict.fromkeys(PEERS)
        self.formed: dict[int, Formation] = {}
        self.running: dict[int, Bootstrap] = {}
        self.mail: list[tuple[int, int, str, Formation]] = []
        self.ids = 0

    def start(self, i: int) -> None:
        self.running[i] = Bootstrap(PEERS[i], (1, 2, 3), self.synced[i])

    def stop(self, i: int) -> None:
        del self.running[i]
        self.mail = [mail for mail in self.mail if i not in mail[:2]]

    def propose(self, i: int) -> None:
        present = {j: PEERS[j] for j in self.running if j != i and j not in self.formed}
        self.ids += 1
        proposal = self.running[i].proposal(present, bytes([self.ids % 250 + 1]) * 16)
        if proposal is None or i in self.formed:
            return
        self.synced[i] = proposal
        if self.running[i].all_accepted:
            self.form(i, proposal)
        else:
            self.mail += [(i, j, "proposed", proposal) for j in (1, 2, 3) if j != i]

    def form(self, i: int, formation: Formation) -> None:
        assert all(self.synced[j] == formation for j in (1, 2, 3)), "formed before every initial voter had synced it"
        self.formed[i] = formation
        self.mail += [(i, j, "formed", formation) for j in (1, 2, 3) if j != i]

    def deliver(self) -> None:
        sender, to, step, formation = self.mail.pop(self.rng.randrange(len(self.mail)))
        if to not in self.running or self.rng.random() < 0.2:
            return
        bootstrap = self.running[to]
        if to in self.formed:
            if step == "proposed":
                self.mail.append((to, sender, "formed", self.formed[to]))
        elif step == "proposed" and bootstrap.refusal(PEERS[sender], formation) is None:
            self.synced[to] = bootstrap.prepared = formation
            self.mail.append((to, sender, "accepted", formation))
        elif step == "accepted" and bootstrap.proposes and bootstrap.accepted(PEERS[sender], formation):
            self.form(to, formation)
        elif step == "formed":
            self.synced[to] = self.formed[to] = formation


@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_random_starts_give_one_cluster_each(seed):
    party = Party(seed)
    for step in range(3000):
        down = [i for i in PEERS if i not in party.running]
        if down and party.rng.random() < 0.1:
            party.start(party.rng.choice(down))
        elif party.running and step < 300 and party.rng.random() < 0.02:
            party.stop(party.rng.choice(sorted(party.running)))
        elif party.mail and party.rng.random() < 0.7:
            party.deliver()
        elif 1 in party.running:
            party.propose(1)
        if len(party.formed) == 3:
            break
        # Whoever meets a node of a formed cluster at a new stream learns of it from the hello.
        if party.formed and party.rng.random() < 0.05:
            known = next(iter(party.formed.values()))
            for i in party.running:
                party.formed.setdefault(i, known)
    assert len({f.cluster_id for f in party.formed.values()}) == 1
    assert len(party.formed) == 3


def test_only_the_lowest_id_proposes_and_only_with_everybody_there():
    one, two = Bootstrap(PEERS[1], (1, 2, 3), None), Bootstrap(PEERS[2], (1, 2, 3), None)
    assert one.missing({2: PEERS[2]}) == [3]
    assert one.proposal({2: PEERS[2]}, b"c" * 16) is None
    assert two.proposal({1: PEERS[1], 3: PEERS[3]}, b"c" * 16) is None
    proposal = one.proposal({2: PEERS[2], 3: PEERS[3]}, b"c" * 16)
    assert proposal == Formation(b"c" * 16, tuple(PEERS.values()))
    assert one.proposal({2: PEERS[2], 3: PEERS[3]}, b"d" * 16) == proposal, "the same one until it is accepted"


def test_a_proposal_is_made_anew_when_a_disk_was_replaced_meanwhile():
    one = Bootstrap(PEERS[1], (1, 2), Formation(b"c" * 16, (PEERS[1], PEERS[2])))
    replaced = PeerId(2, b"9" * 16)
    assert one.proposal({2: replaced}, b"d" * 16) == Formation(b"d" * 16, (PEERS[1], replaced))


@pytest.mark.parametrize(
    ("sender", "proposal", "reason"),
    [
        (1, Formation(b"c" * 16, (PEERS[1], PEERS[2])), "controller.quorum.voters"),
        (3, Formation(b"c" * 16, tuple(PEERS.values())), "only node 1 may propose"),
        (1, Formation(b"c" * 16, (PEERS[1], PeerId(2, b"9" * 16), PEERS[3])), "another directory"),
        (1, Formation(b"c", tuple(PEERS.values())), "16 bytes"),
    ],
)
def test_wrong_proposals_are_refused_with_the_reason(sender, proposal, reason):
    refusal = Bootstrap(PEERS[2], (1, 2, 3), None).refusal(PEERS[sender], proposal)
    assert refusal is not None
    assert reason in refusal


def test_a_node_that_is_no_initial_voter_never_proposes():
    observer = Bootstrap(PeerId(9, b"9" * 16), (1, 2, 3), None)
    assert observer.proposal({1: PEERS[1], 2: PEERS[2], 3: PEERS[3]}, b"c" * 16) is None
