"""Settings: three sources in order, one line per mistake."""

import re
from pathlib import Path

import pytest

from node.config import ConfigError, Settings, Voter, keys, load, unknown_in_environment


def settings(tmp_path: Path, *flags: str, file: str = "", environ: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "node.toml"
    path.write_text(f'node.id = 1\ndata.dir = "{tmp_path}"\n{file}')
    return load(path, flags, environ or {})


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    key, environ = "broker.session.timeout.ms", {"OTTLA_BROKER_SESSION_TIMEOUT_MS": "5000"}
    file = f"{key} = 4000"
    assert settings(tmp_path).broker_session_timeout_ms == 3000
    assert settings(tmp_path, file=file).broker_session_timeout_ms == 4000
    assert settings(tmp_path, file=file, environ=environ).broker_session_timeout_ms == 5000
    assert settings(tmp_path, f"{key}=6000", file=file, environ=environ).broker_session_timeout_ms == 6000
    empty = dict.fromkeys(environ, "")
    assert settings(tmp_path, file=file, environ=empty).broker_session_timeout_ms == 4000, (
        "compose passes on unset names so"
    )


def test_a_wrong_value_in_the_environment_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        settings(tmp_path, environ={"OTTLA_BASE_PORT": "99999"})
    assert str(raised.value).startswith("base.port = '99999' (environment OTTLA_BASE_PORT): ")


def test_run_time_configs_have_the_same_order(tmp_path: Path) -> None:
    key, environ = "log.retention.ms", {"OTTLA_LOG_RETENTION_MS": "5"}
    assert settings(tmp_path, file=f"{key} = 4").broker_configs == {key: "4"}
    assert settings(tmp_path, file=f"{key} = 4", environ=environ).broker_configs == {key: "5"}
    assert settings(tmp_path, f"{key}=6", file=f"{key} = 4", environ=environ).broker_configs == {key: "6"}
    assert settings(tmp_path, file="unclean.leader.election.enable = true").broker_configs == {
        "unclean.leader.election.enable": "true"
    }


def test_dotted_and_quoted_keys_are_the_same(tmp_path: Path) -> None:
    assert settings(tmp_path, file='"base.port" = 7000').base_port == 7000
    assert settings(tmp_path, file="[base]\nport = 7000").base_port == 7000


def test_listeners_of_node_3(tmp_path: Path) -> None:
    made = settings(tmp_path, "node.id=3")
    assert [made.listener(n) for n in ("public", "control", "replication", "http")] == [
        "127.0.0.1:9194",
        "127.0.0.1:9294",
        "127.0.0.1:9394",
        "127.0.0.1:9494",
    ]
    assert made.kafka_listeners == (("kafka", "127.0.0.1:9094", "127.0.0.1:9094", False),)
    assert made.voters == (Voter(3, "127.0.0.1:9294"),)
    made = settings(tmp_path, "listen.host=0.0.0.0", "advertised.host=a", "listeners.control=[::1]:7")
    assert (made.listener("public"), made.advertised("public")) == ("0.0.0.0:9192", "a:9192")
    assert (made.listener("control"), made.advertised("control")) == ("[::1]:7", "a:7")


def test_voters_as_text_and_as_list(tmp_path: Path) -> None:
    expected = (Voter(1, "a:1"), Voter(2, "b:2"))
    assert settings(tmp_path, "controller.quorum.voters=2@b:2, 1@a:1").voters == expected
    assert settings(tmp_path, file='controller.quorum.voters = ["1@a:1", "2@b:2"]').voters == expected


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["node.id=x"], ["node.id = 'x' (flag --set)", "integer"]),
        (["node.id=0"], ["node.id", "greater than or equal to 1"]),
        (["base.port=70000"], ["base.port", "65535"]),
        (["base.port=100"], ["base.port", "greater than or equal to 101"]),
        (["base.port=65300"], ["base.port 65300 gives node 1 port 65600 for its http listener", "65535"]),
        (["listeners.kafka=127.0.0.1:9192"], ["the kafka listener has 127.0.0.1:9192, and the public one"]),
        (["listeners.http=0.0.0.0:9292"], ["the http listener has 0.0.0.0:9292, and the control one"]),
        (["listeners.public=off"], ["listeners.public", "'off' is not host:port"]),
        (
            ["controller.quorum.voters=1@a:9192,2@b:9193"],
            ["quorum at a:9192, the port of its public listener", "control listener is at 127.0.0.1:9292", "base.port"],
        ),
        (["public.authentication=token"], ["without a login", "kafka.authentication=sasl, or listeners.kafka=off"]),
        (["brker.rack=a"], ["brker.rack (flag --set)", "did you mean broker.rack?"]),
        (["log.retention.ms=soon"], ["log.retention.ms", "whole number"]),
        (["controller.quorum.voters=1@a:1,1@b:2"], ["controller.quorum.voters", "twice"]),
        (["controller.quorum.voters=a:1"], ["controller.quorum.voters", "'a:1' is not id@host:port"]),
        (["listeners.http=here"], ["listeners.http", "'here' is not host:port"]),
        (["listen.host=0.0.0.0"], ["nobody can dial", "advertised.host"]),
        (["broker.heartbeat.interval.ms=2000"], ["at most half", "3000"]),
        (["logging.level=loud"], ["logging.level", "'debug', 'info', 'warning' or 'error'"]),
        (["no-equals"], ["key=value"]),
    ],
)
def test_a_mistake_is_named_with_its_source_and_what_is_allowed(
    tmp_path: Path, flags: list[str], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(tmp_path, *flags)
    for words in said:
        assert words in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(tmp_path, "node.id=x", "base.port=y")
    assert len(str(refused.value).splitlines()) == 2


def test_what_is_missing_says_all_three_ways() -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, [], {})
    assert "data.dir is not set" in str(refused.value)
    assert "OTTLA_NODE_ID" in str(refused.value)
    assert "--set node.id=..." in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml", [], {})
    (tmp_path / "bad.toml").write_text("node.id =")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "bad.toml", [], {})


def test_unknown_variables_are_found_and_known_ones_are_not() -> None:
    environ = {"OTTLA_NODE_ID": "1", "OTTLA_BOOTSTRAP": "a:1", "OTTLA_LOG_RETENTION_MS": "1", "OTTLA_PORT": "tcp://"}
    assert unknown_in_environment(environ) == ["OTTLA_PORT"]


def test_keys_are_unique_and_dotted() -> None:
    assert len(set(keys())) == len(keys())
    assert all("_" not in key for key in keys())


def test_security_needs_files() -> None:
    flags = ["node.id=1", "data.dir=/x", "security=on"]
    with pytest.raises(ConfigError, match=r"set tls\.dir"):
        load(None, flags, {})
    with pytest.raises(ConfigError, match=r"set tls\.dir"):
        load(None, [*flags, "tls.ca=/a", "tls.cert=/b"], {})
    assert load(None, flags, {"OTTLA_TLS_DIR": "/t"}).tls_files == (
        Path("/t/ca.crt"),
        Path("/t/tls.crt"),
        Path("/t/tls.key"),
    )
    mixed = load(None, [*flags, "tls.dir=/t", "tls.ca=/a"], {}).tls_files
    assert mixed == (Path("/a"), Path("/t/tls.crt"), Path("/t/tls.key"))
    assert load(None, flags[:2], {}).security == "off"
    with pytest.raises(ConfigError, match=r"security is optional: set tls\.dir"):
        load(None, [*flags[:2], "security=optional"], {})
    assert load(None, [*flags[:2], "security=required", "tls.dir=/t"], {}).security == "on"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), ()),
        (("listen.host=localhost",), ()),
        (("listen.host=::1", "listeners.public=[::1]:9092", "listeners.kafka=[::1]:9192"), ()),
        (("listen.host=0.0.0.0", "advertised.host=a"), ("public", "control", "replication", "kafka")),
        (("listen.host=0.0.0.0", "advertised.host=a", "listeners.kafka=off"), ("public", "control", "replication")),
        (("listeners.kafka=10.0.0.1:9192",), ("kafka",)),
        (("listeners.control=node-1:9192",), ("control",)),
        (("listen.host=0.0.0.0", "advertised.host=a", "security=on", "tls.dir=/t"), ()),
        (("listeners.control=node-1:9192", "security=optional", "tls.dir=/t"), ("control",)),
    ],
)
def test_listeners_that_are_open_to_others_without_tls(
    tmp_path: Path, flags: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert settings(tmp_path, *flags).open_listeners == expected


def test_clients_of_kafka_are_served_unless_told_otherwise(tmp_path: Path) -> None:
    assert [at.port for at in settings(tmp_path).endpoints] == [9092]
    assert [at.port for at in settings(tmp_path, "listeners.kafka=127.0.0.1:7").endpoints] == [7]
    closed = settings(tmp_path, "listeners.kafka=off")
    assert (closed.endpoints, closed.kafka_listeners) == ((), ())
    sasl = settings(tmp_path, "public.authentication=token", "kafka.authentication=sasl")
    assert sasl.serves_kafka
    assert settings(tmp_path, "public.authentication=token", "security=on", "tls.dir=/t").serves_kafka


def test_several_listeners_for_clients_of_kafka_have_names(tmp_path: Path) -> None:
    named = "listeners.kafka=0.0.0.0:9092, IN@0.0.0.0:19092,OUT://[::]:29092", "listen.host=0.0.0.0"
    made = settings(tmp_path, *named, "advertised.host=node-1", "advertised.kafka=OUT@localhost:9092")
    assert made.kafka_listeners == (
        ("kafka", "0.0.0.0:9092", "node-1:9092", False),
        ("kafka.IN", "0.0.0.0:19092", "node-1:19092", False),
        ("kafka.OUT", "[::]:29092", "localhost:9092", True),
    )
    assert made.endpoints[2] == ("kafka.OUT", "localhost", 9092)
    assert made.open_listeners == ("public", "control", "replication", "kafka", "kafka.IN", "kafka.OUT")
    for wrong, said in (
        ("listeners.kafka=A@a:1,A@b:2", "two listeners have the name A"),
        ("listeners.kafka=a:1,b:2", "two listeners have no name"),
        ("listeners.kafka=A@a", "'a' is not host:port"),
        ("listeners.kafka=1A@a:1", "'1A@a:1' is not host:port, or NAME@host:port"),
        ("listeners.kafka=A@0.0.0.0:9192", "the kafka.A listener has 0.0.0.0:9192, and the public one"),
        ("advertised.kafka=A@a:1", "advertised.kafka has kafka.A, which is no listener for Kafka here"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            settings(tmp_path, wrong)


def test_clients_of_kafka_find_a_node_where_those_of_grpc_do(tmp_path: Path) -> None:
    """A node whose every address was given one by one starts as it did before there was such a listener."""
    each = [f"advertised.{name}=there:{port}" for name, port in (("public", 1), ("control", 2), ("replication", 3))]
    made = settings(tmp_path, "listen.host=0.0.0.0", *each)
    assert made.endpoints == (("kafka", "there", 9092),)
    assert settings(tmp_path, "advertised.public=there:1").endpoints == (("kafka", "127.0.0.1", 9092),)


def test_an_older_clusters_ports_are_pinned_by_its_base_port(tmp_path: Path) -> None:
    voters = "controller.quorum.voters=1@127.0.0.1:9192,2@127.0.0.1:9193"
    made = settings(tmp_path, "base.port=9092", voters)
    assert (made.advertised("control"), made.listener("public")) == (made.voters[0].address, "127.0.0.1:9092")
    # Another address of this node's quorum, as through a port mapping, is no mistake.
    assert settings(tmp_path, "controller.quorum.voters=1@there:19292")


def test_access_control_needs_certificates_and_somebody_who_may_everything(tmp_path: Path) -> None:
    on, secure, root = "authorizer=acl", ("security=on", "tls.dir=/tls"), "super.users=User:root; User:Ann B"
    with pytest.raises(ConfigError, match="without security=on nobody proves who he is"):
        settings(tmp_path, on, root)
    with pytest.raises(ConfigError, match=r"nobody could give the first right: name .* in super\.users"):
        settings(tmp_path, on, *secure)
    rules = settings(tmp_path, on, root, *secure).access_rules
    assert rules == (True, frozenset({"User:root", "User:Ann B"}), False, False)
    audited = settings(tmp_path, "authorizer=audit").access_rules
    assert audited == (True, frozenset(), False, True), "it needs nothing: nobody is refused"
    assert not settings(tmp_path, root, *secure).access_rules.on
    assert settings(tmp_path, file='super.users = ["User:a;b"]').super_users == {"User:a;b"}
    for wrong in ("root", "User:", "User:*", "Group:x"):
        with pytest.raises(ConfigError, match="is not User:NAME"):
            settings(tmp_path, f"super.users={wrong}")
