"""How long clients pause: over minutes of simulated time each has what its quota says, and others have all."""

import random

import pytest

from node.api import throttle as throttles
from node.api.throttle import Throttle
from node.metadata.quotas import Quotas
from node.principal import acting_as, node, user
from ottla.protocol.quotas import CLIENT_ID, CONNECTION, FETCH, IP, PRODUCE, USER, Entity, entity_of

ALICE = entity_of([(USER, "alice")])
ANY_CLIENT = entity_of([(CLIENT_ID, None)])


class Rig:
    def __init__(self, entries: dict[Entity, dict[str, float]]) -> None:
        self.now_s = 1000.0
        self.throttle = Throttle(lambda: self.now_s)
        self.set(entries)

    def set(self, entries: dict[Entity, dict[str, float]]) -> None:
        self.throttle.changed(Quotas(entries))

    def produced(self, size_bytes: int, who: str = "alice", client_id: str = "c") -> int:
        with acting_as(user(who)):
            return self.throttle.produced(client_id, size_bytes)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_measured_is_the_quota(seed: int) -> None:
    """Whatever sizes its requests have, and however late it comes back, as long as it would have more."""
    rng = random.Random(seed)
    rate = rng.choice((1_000, 50_000, 5_000_000))
    rig = Rig({ALICE: {PRODUCE: float(rate)}})
    sent = 0
    began_s = rig.now_s
    while rig.now_s - began_s < 10:
        size = rng.randint(1, rate // 4)
        sent += size
        rig.now_s += rig.produced(size) / 1000 + rng.random() * 0.05
    assert sent / (rig.now_s - began_s) == pytest.approx(rate, rel=0.1)


def test_several_connections_share_it() -> None:
    rig = Rig({ALICE: {PRODUCE: 1000.0}})
    next_s = dict.fromkeys(range(20), rig.now_s)
    sent = 0
    while rig.now_s < 1060:
        first = min(next_s, key=lambda one: next_s[one])
        rig.now_s = max(rig.now_s, next_s[first])
        sent += 100
        next_s[first] = rig.now_s + rig.produced(100, client_id=f"c{first}") / 1000
    assert sent == pytest.approx(60_000, rel=0.1)


def test_who_has_none_never_pauses() -> None:
    rig = Rig({ALICE: {PRODUCE: 10.0}})
    assert rig.produced(1000) > 0
    assert rig.produced(10**9, who="bob") == 0
    with acting_as(user("alice")):
        assert rig.throttle.fetched("c", 10**9) == rig.throttle.owed_ms(FETCH, "c") == 0
        assert rig.throttle.read_max_bytes("c", 5000) == 5000
    with acting_as(node(2)):
        assert rig.throttle.produced("c", 10**9) == 0
    rig.set({})
    assert not rig.throttle.on
    assert rig.produced(10**9) == 0


def test_under_a_default_each_has_its_own() -> None:
    rig = Rig({ANY_CLIENT: {PRODUCE: 1000.0}})
    assert rig.produced(3000, client_id="a") > 0
    assert rig.produced(100, client_id="b") == 0
    assert rig.produced(100, who="bob", client_id="a") > 0  # a client id is one, whoever uses it


def test_what_was_not_used_is_not_saved_up() -> None:
    rig = Rig({ALICE: {PRODUCE: 1000.0}})
    rig.now_s += 3600
    assert rig.produced(1250) == 1000


def test_other_quotas_count_at_once_and_debts_stay_with_the_old_ones() -> None:
    rig = Rig({ALICE: {PRODUCE: 1000.0}})
    assert rig.produced(10_250) == 10_000
    rig.set({ALICE: {PRODUCE: 1000.0}, ANY_CLIENT: {PRODUCE: 5.0}})
    with acting_as(user("alice")):
        assert rig.throttle.owed_ms(PRODUCE, "c") == 10_000
    rig.set({ALICE: {PRODUCE: 2000.0}})
    assert rig.produced(500) == 0


def test_readers_get_no_more_than_they_pay_for_soon() -> None:
    rig = Rig({ALICE: {FETCH: 1000.0}})
    with acting_as(user("alice")):
        assert rig.throttle.read_max_bytes("c", 10**6) == 250
        assert rig.throttle.read_max_bytes("c", 100) == 100
        rig.set({ALICE: {FETCH: 1.0}})
        assert rig.throttle.read_max_bytes("c", 100) == 1


def test_connections_that_come_too_soon_do_not_count() -> None:
    rig = Rig({((IP, None),): {CONNECTION: 2.0}})
    taken = 0
    for _ in range(1000):
        taken += not rig.throttle.connected("10.0.0.1")
        rig.now_s += 0.01
    assert taken == pytest.approx(20, abs=2)
    assert rig.throttle.connected("10.0.0.2") == 0


def test_clients_that_call_themselves_by_many_names_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttles, "BUCKETS_MAX", 10)
    monkeypatch.setattr(throttles, "MEMO_MAX", 20)
    rig = Rig({ANY_CLIENT: {PRODUCE: 10.0}})
    assert rig.produced(1000, client_id="debtor") > 0
    for number in range(100):
        rig.produced(1, client_id=f"c{number}" + "x" * 10_000)
    assert len(rig.throttle._buckets) <= 10
    assert len(rig.throttle._memo) <= 20
    with acting_as(user("alice")):
        assert rig.throttle.owed_ms(PRODUCE, "debtor") > 0
