"""Who may do what by ACLs, beside a model that only loops over them."""

import random
from collections.abc import Sequence

import pytest

from node.metadata.acls import Acls, Rules, Why
from ottla.protocol import acls
from ottla.protocol.acls import (
    ALL,
    ALLOW,
    ALTER,
    ALTER_CONFIGS,
    ANY,
    CLUSTER,
    CLUSTER_NAME,
    CREATE,
    DELETE,
    DENY,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    LITERAL,
    MATCH,
    PREFIXED,
    READ,
    TOPIC,
    WRITE,
    Acl,
    Filter,
)
from ottla.protocol.errors import ApiError

ON = Rules(on=True)
NAMES = ["*", "a", "ab", "abc", "b", "ba", "a.b"]
WHO = ["User:*", "User:x", "User:y"]
HOSTS = ["*", "10.0.0.1", "10.0.0.2"]
OPERATIONS = [ALL, READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]
PAIRS = 100_000


def of(*entries: Acl) -> Acls:
    return Acls.EMPTY.changed(dict.fromkeys(entries), entries)


def allow(operation: int, name: str = "a", who: str = "User:x", **fields: object) -> Acl:
    return Acl(TOPIC, LITERAL, name, who, "*", operation, ALLOW)._replace(**fields)  # type: ignore[arg-type]


def deny(operation: int, name: str = "a", who: str = "User:x", **fields: object) -> Acl:
    return allow(operation, name, who, **({"permission": DENY} | fields))


def may(
    entries: Sequence[Acl], operation: int, name: str = "a", who: str = "User:x", host: str = "10.0.0.1", kind: int = 2
) -> bool:
    return of(*entries).decide(ON, who, host, operation, kind, name).allowed


def fits(acl: Acl, kind: int, name: str) -> bool:
    if acl.resource != kind:
        return False
    return name.startswith(acl.name) if acl.pattern == PREFIXED else acl.name in ("*", name)


def naive(entries: Sequence[Acl], rules: Rules, who: str, host: str, operation: int, kind: int, name: str) -> bool:
    """Kafka's documentation, rule by rule."""
    if who in rules.super_users:
        return True
    about = [acl for acl in entries if fits(acl, kind, name)]
    if not about:
        return rules.open_without_acl
    mine = [acl for acl in about if acl.principal in (who, "User:*") and acl.host in (host, "*")]
    if any(acl.permission == DENY and acl.operation in (operation, ALL) for acl in mine):
        return False
    wide = {operation, ALL}
    if operation == DESCRIBE:
        wide |= {READ, WRITE, DELETE, ALTER}
    if operation == DESCRIBE_CONFIGS:
        wide |= {ALTER_CONFIGS}
    return any(acl.permission == ALLOW and acl.operation in wide for acl in mine)


def naive_any(entries: Sequence[Acl], rules: Rules, who: str, host: str, operation: int, kind: int) -> bool:
    """Whether there is a name that it is allowed for. The names that a pattern can be about are tried."""
    tried = {name + end for acl in entries for name in [acl.name] for end in ("", "~")} - {"*"}
    # An ALLOW of a describing operation only counts when it is that operation: implied ones are not looked for.
    plain = [acl for acl in entries if acl.permission == DENY or acl.operation in (operation, ALL)]
    return who in rules.super_users or any(
        naive(plain, rules, who, host, operation, kind, name) for name in [*tried, "none-is-called-so"]
    )


def random_acl(rng: random.Random) -> Acl:
    pattern = rng.choice((LITERAL, PREFIXED))
    return Acl(
        rng.choice((TOPIC, GROUP)),
        pattern,
        rng.choice(NAMES if pattern == LITERAL else NAMES[1:]),
        rng.choice(WHO),
        rng.choice(HOSTS),
        rng.choice(OPERATIONS),
        rng.choice((DENY, ALLOW, ALLOW)),
    )


@pytest.mark.parametrize("seed", range(4))
def test_decisions_are_those_of_the_model(seed: int) -> None:
    """Sets that grow and shrink from one to the next, as they do in the log: the index is never made anew."""
    rng = random.Random(seed)
    entries: dict[Acl, None] = {}
    index = Acls.EMPTY
    for count in range(PAIRS // 4):
        if count % 10 == 0:
            touched = [random_acl(rng) for _ in range(rng.randint(1, 3))]
            touched += rng.sample(sorted(entries), min(len(entries), rng.choice((0, 1, 1, 4))))
            changed = dict(entries)
            for acl in touched:
                if acl in changed:
                    del changed[acl]
                else:
                    changed[acl] = None
            index, entries = index.changed(changed, touched), changed
            if len(entries) > 15:
                index, entries = Acls.EMPTY, {}
        rules = Rules(True, frozenset(rng.choice(([], [], ["User:y"]))), rng.random() < 0.3)
        asked = (
            rng.choice(["User:x", "User:y", "User:z"]),
            rng.choice(HOSTS[1:]),
            rng.choice(OPERATIONS[1:]),
            rng.choice((TOPIC, GROUP)),
        )
        name = rng.choice([*NAMES[1:], "c"])
        assert index.decide(rules, *asked, name).allowed == naive(list(entries), rules, *asked, name), (entries, asked)
        if count % 50 == 0:
            assert index.decide_any(rules._replace(open_without_acl=False), *asked) == naive_any(
                list(entries), rules._replace(open_without_acl=False), *asked
            ), (sorted(entries), asked)
            assert index == Acls.EMPTY.changed(entries, entries)


def test_nothing_is_allowed_without_an_acl() -> None:
    assert not may([], READ)
    assert of().decide(ON, "User:x", "", READ, TOPIC, "a").why is Why.NO_ACL
    assert of().decide(ON._replace(open_without_acl=True), "User:x", "", READ, TOPIC, "a").allowed
    assert (
        not of(allow(READ, who="User:y")).decide(Rules(True, frozenset(), True), "User:x", "", READ, TOPIC, "a").allowed
    )


def test_off_and_super_users() -> None:
    assert of(deny(READ)).decide(Rules(), "User:x", "", READ, TOPIC, "a").why is Why.OFF
    rules = Rules(True, frozenset({"User:x"}))
    assert of(deny(ALL)).decide(rules, "User:x", "", READ, TOPIC, "a").why is Why.SUPER_USER
    assert not of(allow(ALL, who="User:y")).decide(rules, "User:xy", "", READ, TOPIC, "a").allowed


@pytest.mark.parametrize("operation", [READ, WRITE, DELETE, ALTER])
def test_what_allows_to_describe_as_well(operation: int) -> None:
    assert may([allow(operation)], DESCRIBE)
    assert not may([allow(DESCRIBE)], operation)
    # What denies denies that alone, whatever else would follow from it.
    assert may([deny(operation), allow(DESCRIBE)], DESCRIBE)
    assert not may([deny(DESCRIBE), allow(operation)], DESCRIBE)
    assert may([deny(DESCRIBE), allow(operation)], operation)


def test_altering_configs_shows_them() -> None:
    assert may([allow(ALTER_CONFIGS)], DESCRIBE_CONFIGS)
    assert not may([allow(ALTER_CONFIGS)], DESCRIBE)
    assert not may([allow(CREATE)], DESCRIBE)


def test_what_denies_wins() -> None:
    for first, second in ((allow(READ), deny(READ)), (deny(READ), allow(READ))):
        assert not may([first, second], READ)
    assert not may([allow(READ), deny(READ, "*", "User:*")], READ)
    assert not may([allow(READ, "abc"), deny(ALL, "a", pattern=PREFIXED)], READ, "abc")
    assert may([allow(READ, "abc"), deny(READ, "abcd", pattern=PREFIXED)], READ, "abc")
    assert may([allow(READ), deny(READ, host="10.0.0.2")], READ)


def test_patterns() -> None:
    assert may([allow(READ, "ab", pattern=PREFIXED)], READ, "ab")
    assert may([allow(READ, "ab", pattern=PREFIXED)], READ, "abc")
    assert not may([allow(READ, "ab", pattern=PREFIXED)], READ, "a")
    assert not may([allow(READ, "ab", pattern=PREFIXED)], READ, "xab")
    assert may([allow(READ, "*")], READ, "whatever")
    assert not may([allow(READ, "*")], READ, "whatever", kind=GROUP)
    assert not may([allow(READ, "A")], READ, "a")
    assert not may([allow(READ, "*", pattern=PREFIXED)], READ, "a")


def test_an_acl_that_goes_leaves_nothing_of_it() -> None:
    both = of(allow(READ), allow(READ, "ab", pattern=PREFIXED))
    left = both.changed({allow(READ): None}, [allow(READ, "ab", pattern=PREFIXED)])
    assert left == of(allow(READ))
    assert both != left
    assert left.decide(ON, "User:x", "", READ, TOPIC, "abc").why is Why.NO_ACL
    assert left.changed({}, [allow(READ)]) == Acls.EMPTY
    # Added and removed at once is nothing.
    assert left.changed(dict(left.entries), [allow(WRITE), allow(READ)]) == left


def refusal(acl: Acl) -> str:
    with pytest.raises(ApiError) as caught:
        acls.check(acl)
    assert caught.value.name == "INVALID_REQUEST"
    return caught.value.message


def test_what_can_be_no_acl() -> None:
    good = allow(READ)
    for acl in (good, good._replace(name="*"), good._replace(host="10.1.2.3"), good._replace(host="2001:db8::1")):
        acls.check(acl)
    acls.check(Acl(CLUSTER, LITERAL, CLUSTER_NAME, "User:*", "*", ALTER, DENY))
    for field in ("resource", "pattern", "operation", "permission"):
        for number in (-1, 0, ANY, 99):
            assert str(number) in refusal(good._replace(**{field: number}))
    assert "pattern type 2" in refusal(good._replace(pattern=MATCH))
    for name in ("", "x" * 256, "a\nb", "é" * 128):
        assert "resource name" in refusal(good._replace(name=name))
    for who in ("", "x", ":x", "User:", "User:\x1b[1m", "User:" + "x" * 300):
        assert "principal" in refusal(good._replace(principal=who))
    assert CLUSTER_NAME in refusal(Acl(CLUSTER, LITERAL, "other", "User:x", "*", ALTER, ALLOW))
    for host in ("", "localhost", "10.0.0.0/8", "10.0.0.256"):
        assert "host" in refusal(good._replace(host=host))
    assert "2001:db8::1" in refusal(good._replace(host="2001:DB8:0::1"))


def test_addresses_of_peers() -> None:
    assert acls.address_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert acls.address_of("fe80::1%eth0") == "fe80::1"
    assert acls.address_of("somewhere") == "somewhere"


def test_filters() -> None:
    there = [allow(READ, "*"), allow(READ, "ab"), allow(WRITE, "ab", pattern=PREFIXED), deny(READ, "b", "User:y")]

    def found(**fields: object) -> list[int]:
        return [index for index, acl in enumerate(there) if Filter(**fields).fits(acl)]  # type: ignore[arg-type]

    assert found() == [0, 1, 2, 3]
    assert found(name="ab") == [1, 2]
    assert found(name="abc") == []
    assert found(name="abc", pattern=MATCH) == [0, 2]
    assert found(name="ab", pattern=MATCH) == [0, 1, 2]
    assert found(name="*", pattern=MATCH) == [0]
    assert found(pattern=PREFIXED) == [2]
    assert found(pattern=MATCH) == [0, 1, 2, 3]
    assert found(principal="User:y") == [3]
    assert found(permission=DENY) == [3]
    assert found(operation=WRITE) == [2]
    assert found(operation=ALL) == []
    assert found(host="10.0.0.1") == []
    assert found(resource=GROUP) == []
    for wrong in (Filter(resource=0), Filter(pattern=5), Filter(operation=99), Filter(permission=4)):
        with pytest.raises(ApiError, match="is none"):
            acls.check_filter(wrong)
    with pytest.raises(ApiError, match="bytes"):
        acls.check_filter(Filter(name="x" * 1025))
