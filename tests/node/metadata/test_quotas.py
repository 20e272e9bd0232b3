"""Which quota counts for a client, beside a model that tries Kafka's list from its top; and what may be a quota."""

import random
from collections.abc import Mapping

import pytest

from node.metadata.quotas import Limit, Quotas
from ottla.protocol import quotas
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import (
    CLIENT_ID,
    CONNECTION,
    FETCH,
    IP,
    KEYS,
    PRODUCE,
    REQUEST,
    USER,
    Component,
    Entity,
    entity_of,
    fits,
)

NAMES = ("a", "b")
ENTITIES: list[Entity] = [
    entity_of(parts)
    for user in (None, *NAMES, "-")
    for client in (None, *NAMES, "-")
    if (parts := [(kind, name) for kind, name in ((USER, user), (CLIENT_ID, client)) if name != "-"])
]


def naive(entries: Mapping[Entity, Mapping[str, float]], key: str, user: str, client: str) -> float | None:
    """KIP-13's and KIP-55's list, line by line."""
    for parts in (
        {USER: user, CLIENT_ID: client},
        {USER: user, CLIENT_ID: None},
        {USER: user},
        {USER: None, CLIENT_ID: client},
        {USER: None, CLIENT_ID: None},
        {USER: None},
        {CLIENT_ID: client},
        {CLIENT_ID: None},
    ):
        for entity, values in entries.items():
            if dict(entity) == parts and key in values:
                return values[key]
    return None


@pytest.mark.parametrize("seed", range(4))
def test_which_one_counts_is_what_the_model_says(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2500):
        chosen = rng.sample(ENTITIES, rng.randint(0, len(ENTITIES)))
        entries = {
            entity: {key: float(rng.randint(1, 9)) for key in rng.sample((PRODUCE, FETCH), rng.randint(1, 2))}
            for entity in chosen
        }
        index = Quotas(entries)
        for _ in range(4):
            key, user, client = rng.choice((PRODUCE, FETCH)), rng.choice("abc"), rng.choice("abc")
            limit = index.limit(key, user, client)
            assert (limit and limit.rate) == naive(entries, key, user, client), (entries, key, user, client)


def test_who_shares_one() -> None:
    def limit(*parts: quotas.Part) -> Limit | None:
        return Quotas({entity_of(parts): {PRODUCE: 7.0}}).limit(PRODUCE, "u", "c")

    assert limit((USER, "u")) == limit((USER, None)) == Limit(7, "u")
    assert limit((CLIENT_ID, "c")) == limit((CLIENT_ID, None)) == Limit(7, None, "c")
    assert limit((USER, "u"), (CLIENT_ID, "c")) == limit((USER, None), (CLIENT_ID, None)) == Limit(7, "u", "c")
    assert limit((USER, "v")) is None
    assert Quotas({entity_of([(USER, "u")]): {PRODUCE: 7.0}}).limit(FETCH, "u", "c") is None


def test_addresses_have_their_own() -> None:
    index = Quotas({((IP, None),): {CONNECTION: 1.0}, ((IP, "10.0.0.1"),): {CONNECTION: 2.0}})
    assert index.limit_of_address(CONNECTION, "10.0.0.1") == Limit(2, address="10.0.0.1")
    assert index.limit_of_address(CONNECTION, "10.0.0.2") == Limit(1, address="10.0.0.2")
    assert Quotas.EMPTY.limit_of_address(CONNECTION, "10.0.0.2") is None


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ([], "empty"),
        ([("users", "a")], "none of user"),
        ([(USER, "a"), (USER, "b")], "one part of each type"),
        ([(IP, "10.0.0.1"), (USER, "a")], "by itself"),
        ([(USER, "")], "0 characters"),
        ([(USER, "a" * 256)], "256 characters"),
        ([(CLIENT_ID, "a\nb")], "printable"),
        ([(IP, "here")], "no address"),
        ([(IP, "::0001")], "written here: ::1"),
    ],
)
def test_what_nothing_can_be_for(parts: list[quotas.Part], wrong: str) -> None:
    with pytest.raises(ApiError, match=f"INVALID_REQUEST.*{wrong}"):
        entity_of(parts)


def test_what_can_be_no_quota() -> None:
    user, address = entity_of([(USER, None)]), entity_of([(IP, None)])
    for entity, key, value in (
        (user, PRODUCE, 0.0),
        (user, PRODUCE, -1.0),
        (user, PRODUCE, 1.5),
        (user, PRODUCE, float("nan")),
        (user, PRODUCE, float("inf")),
        (user, REQUEST, 1e300),
        (user, "bytes", 1.0),
        (user, CONNECTION, 1.0),
        (address, PRODUCE, 1.0),
        (address, CONNECTION, 0.5),
    ):
        with pytest.raises(ApiError, match="INVALID_REQUEST"):
            quotas.check_value(entity, key, value)
    for key, known in KEYS.items():
        quotas.check_value(address if known.of_address else user, key, 1.0 if known.whole else 0.01)


def test_filters() -> None:
    both, alone = entity_of([(USER, "a"), (CLIENT_ID, None)]), entity_of([(USER, "a")])

    def found(*components: Component, strict: bool = False) -> list[Entity]:
        return [entity for entity in (both, alone) if fits(entity, components, strict=strict)]

    assert found() == found(Component(USER, any=True)) == found(Component(USER, any=False, name="a")) == [both, alone]
    assert found(Component(USER, any=True), strict=True) == [alone]
    assert found(Component(CLIENT_ID, any=False)) == [both]
    assert found(Component(CLIENT_ID, any=False, name="c")) == found(strict=True) == []
    with pytest.raises(ApiError, match="INVALID_REQUEST"):
        quotas.check_components([Component(USER, any=True), Component(USER, any=False)])
    with pytest.raises(ApiError, match="INVALID_REQUEST"):
        quotas.check_components([Component("group", any=True)])
