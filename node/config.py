"""The node's settings: Kafka's dotted names from flags, the environment and a TOML file, in this order of precedence.

`broker.session.timeout.ms` in the file is `OTTLA_BROKER_SESSION_TIMEOUT_MS` in the environment and
`--set broker.session.timeout.ms=3000` on the command line. Every refusal is a `ConfigError` that names the key, where
its value came from, the value and what is allowed. What can also be changed at run time (`log.retention.ms`,
`num.partitions`: the table of broker configs) is kept as text in `broker_configs`, the lowest level of its precedence.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from node.metadata.acls import Rules
from node.metadata.image import Endpoint
from ottla.protocol.configs import BROKER_KEYS
from ottla.protocol.errors import ApiError
from ottla.secure.names import Files

ENV_PREFIX: Final = "OTTLA_"
ENV_OF_CLIENTS: Final = {"OTTLA_BOOTSTRAP", "OTTLA_USER", "OTTLA_PASSWORD_FILE"}
WILDCARDS: Final = {"0.0.0.0", "::", "[::]", "*"}
KAFKA: Final = "kafka"
KAFKA_OFFSET: Final = -100
PORT_MAX: Final = 65535
OFF: Final = "off"
_VOTER: Final = re.compile(r"(\d+)@(.+)")
# As voters are written; and as Kafka has it.
_NAMED: Final = re.compile(r"(?:([A-Za-z][\w-]{0,31})(?:@|://))?([^@]+)")

Ms = Annotated[int, Field(ge=1, le=2**31 - 1)]
MsOrNever = Annotated[int, Field(ge=-1, le=2**63 - 1)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]


class ConfigError(ValueError):
    """Settings that cannot work. The text is meant for the operator; one line per wrong key."""


class Voter(NamedTuple):
    """A voter of the first quorum: node id, and host:port of its control listener."""

    node_id: int
    address: str


class KafkaListener(NamedTuple):
    """One for clients of Kafka: `kafka`, or `kafka.NAME`. `is_said`: what it advertises was chosen by somebody."""

    name: str
    address: str
    advertised: str
    is_said: bool


def _by_name(text: str) -> dict[str, str]:
    """Addresses of Kafka's listeners, by their names. Raises ValueError."""
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = _NAMED.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not host:port, or NAME@host:port")
        split_address(match[2])
        name = f"{KAFKA}.{match[1]}" if match[1] else KAFKA
        if name in found:
            raise ValueError(f"two listeners have {f'the name {match[1]}' if match[1] else 'no name'}")
        found[name] = match[2]
    return found


def split_address(address: str) -> tuple[str, int]:
    """`host:port` (an IPv6 host in brackets) as a pair. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


class Settings(BaseModel):
    """One field per key: `node_id` is `node.id`. What a key means is said beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # This node's number in the cluster, its own for good; and where it keeps its data.
    node_id: Annotated[int, Field(ge=1, le=2**31 - 1)]
    data_dir: Path
    # The rack this node is in, as clients are told.
    broker_rack: str = ""

    # Where it listens. base.port is the public listener of node 1, for gRPC, node i adds i-1; control, replication and
    # http add 100, 200 and 300, and clients of Kafka come 100 below. A listener that is given as host:port stays as it
    # is.
    base_port: Annotated[int, Field(ge=-KAFKA_OFFSET + 1, le=65535)] = 9192
    listen_host: str = "127.0.0.1"
    listeners_public: str = ""
    listeners_control: str = ""
    listeners_replication: str = ""
    listeners_http: str = ""
    # Where clients of Apache Kafka are served (docs/kafka.md), as host:port; off: nowhere. Every node of a cluster
    # needs it, or those clients do not find what the others lead. Several listeners have names, as in
    # INSIDE@0.0.0.0:9092,OUTSIDE@0.0.0.0:19092: who comes in at one is told the addresses of that one on every node.
    listeners_kafka: str = ""
    # How those clients say who they are: `off`, by nothing but their certificate where security is on; or `sasl`, with
    # the name and password of a user (`ottla user`), in TLS without a certificate of their own where security is on.
    kafka_authentication: Literal["off", "sasl"] = "off"
    # How clients of the public listener say who they are: `off`, by nothing but their certificate where security is on;
    # or `token`, by logging in as users (`ottla user`), in TLS without a certificate of their own where security is on.
    public_authentication: Literal["off", "token"] = "off"
    # Who is told the metrics where security is on: `on`, whoever shows a certificate of the cluster or is a user, over
    # https; or `off`, everybody who reaches the port, over http, too. /healthz and /readyz are everybody's.
    http_authentication: Literal["on", "off"] = "on"
    # What others are told to dial: the host for all listeners, or host:port of one. By default where it listens, which
    # must not be a wildcard then. For clients of Kafka by listener, as in INSIDE@node-1:9092,OUTSIDE@localhost:19092;
    # where nothing is said, those on the node's machine are told an address that works there (docs/kafka.md).
    advertised_host: str = ""
    advertised_public: str = ""
    advertised_control: str = ""
    advertised_replication: str = ""
    advertised_kafka: str = ""

    # Whether every connection is TLS and both of its ends show a certificate: `off`, or `on` (or `required`) for all
    # listeners of this node and for what it dials. All nodes and clients of a cluster need the same, but for
    # `optional`: such a node takes both, and dials each other one as that one takes it, so a cluster that runs goes
    # from one to the other by rolling restarts. docs/security.md says how, and how to make certificates.
    security: Literal["off", "optional", "on"] = "off"
    # The directory with ca.crt (whom to trust), tls.crt and tls.key, as `ottla secure init` makes one for each node;
    # or each file by itself. New files are taken within a second or two, without a restart.
    tls_dir: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    # Who may do what: `off`, everybody everything; `acl`, what ACLs allow (`ottla acl`), which needs security and a
    # super user; or `audit`, everybody everything, and the audit log says who would be denied what. docs/security.md
    # tells of it.
    authorizer: Literal["off", "audit", "acl"] = "off"
    # Who may do everything, whatever ACLs say, as in `User:admin;User:root`. A certificate's user is its common name.
    super_users: frozenset[str] = frozenset()
    # Whether what no ACL is about is everybody's.
    allow_everyone_if_no_acl_found: bool = False

    # Where it is written who changed the cluster, and who was denied what, as lines of JSON; empty: in the node's log.
    # A file that has reached the size is renamed (.1), over the one before.
    audit_file: str = ""
    audit_file_max_bytes: Annotated[int, Field(ge=2**16, le=2**40)] = 64 * 2**20

    # The nodes that form the cluster and vote on its metadata, as id@host:port of their control listeners; empty: this
    # node alone. A node that is not among them only stores and serves partitions (Kafka's `process.roles=broker`): it
    # follows the metadata of the cluster it finds there, has no vote and never becomes controller. `ottla cluster voter
    # add` gives it a vote.
    controller_quorum_voters: tuple[Voter, ...] = ()
    # Silence of the controller after which a voter stands for election, at least; at most twice as long.
    controller_quorum_election_timeout_ms: Ms = 1000
    # A controller that has not heard from a majority for this long resigns.
    controller_quorum_fetch_timeout_ms: Ms = 1500
    # A voter of the list above that has no vote, for it is new or its disk was replaced, asks for its seat by itself.
    controller_quorum_auto_join_enable: bool = False
    # A snapshot of the metadata is taken after so many bytes of changes, or after this time.
    metadata_log_max_record_bytes_between_snapshots: Bytes = 4 * 2**20
    metadata_log_max_snapshot_interval_ms: Ms = 600_000

    # How often a broker tells the controller that it lives, and the silence after which it is fenced and its
    # partitions move. A process that dies is noticed at once: this is for frozen ones and cut links.
    broker_heartbeat_interval_ms: Ms = 500
    broker_session_timeout_ms: Ms = 3000
    # How long a node that is told to stop waits for its leaderships to move away.
    controlled_shutdown_timeout_ms: Ms = 15_000
    # Replicas that one node takes; topics that need more are refused with POLICY_VIOLATION.
    max_partitions_per_node: Annotated[int, Field(ge=1, le=100_000)] = 4000

    # A follower that has not caught up with the leader for this long leaves the ISR.
    replica_lag_time_max_ms: Ms = 5000
    # Bytes that a follower gets at once, per partition and in all.
    replica_fetch_max_bytes: Bytes = 2**20
    replica_fetch_response_max_bytes: Bytes = 8 * 2**20
    # How long a follower leaves a partition alone that could not be fetched.
    replica_fetch_backoff_ms: Ms = 100
    # How often high watermarks and recovery points are written down.
    replica_high_watermark_checkpoint_interval_ms: Ms = 5000

    # Free bytes of the disk below which producers are refused, or that percentage of a small disk, whichever is less.
    disk_watermark_bytes: Bytes = 256 * 2**20
    disk_watermark_percent: Annotated[int, Field(ge=1, le=50)] = 5

    # How often logs are looked at for segments that are old enough to go.
    log_retention_check_interval_ms: Ms = 30_000
    # How often a closed segment, one of all logs in turn, is read in search of damage.
    log_scrub_interval_ms: Ms = 10_000
    # Silence after which a partition forgets an idempotent producer.
    producer_id_expiration_ms: Ms = 86_400_000

    # Whether naming a topic that does not exist creates it. Off: a typing error should not become a topic.
    auto_create_topics_enable: bool = False
    # Static broker configs: defaults of topics, and of the cluster.
    broker_configs: Mapping[str, str] = Field(default_factory=dict)

    # The largest message of a client; above it the answer is MESSAGE_TOO_LARGE, above twice of it gRPC's own
    # RESOURCE_EXHAUSTED.
    socket_request_max_bytes: Annotated[int, Field(ge=2**20, le=2**30)] = 32 * 2**20
    # Bytes of batches and answers that all calls together may have in flight in this node; 0: a share of its memory.
    in_flight_max_bytes: Annotated[int, Field(ge=0, le=2**40)] = 0
    # The most that one Fetch answers with, whatever it asks for.
    fetch_max_bytes: Bytes = 16 * 2**20
    # Memory for batches of gRPC's that were converted for clients of Kafka, for those who read the same soon after; 0:
    # each read converts anew. Worth less than the memory on a small node.
    kafka_converted_max_bytes: Annotated[int, Field(ge=0, le=2**34)] = 64 * 2**20

    # Silence after which a group member that did not say how long it may be silent loses its partitions.
    group_consumer_session_timeout_ms: Ms = 10_000
    # How long the positions of a group without members are kept.
    offsets_retention_minutes: Annotated[int, Field(ge=1, le=2**31 - 1)] = 10_080

    # What the node writes to stderr: from which level on, and as key=value text or JSON.
    logging_level: Literal["debug", "info", "warning", "error"] = "info"
    logging_format: Literal["text", "json"] = "text"

    @field_validator("controller_quorum_voters", mode="before")
    @classmethod
    def _parse_voters(cls, value: object) -> object:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError("a list of id@host:port is allowed")
        voters: list[Voter] = []
        for item in items:
            if isinstance(item, Voter):
                voters.append(item)
                continue
            match = _VOTER.fullmatch(str(item))
            if match is None:
                raise ValueError(f"{item!r} is not id@host:port")
            split_address(match[2])
            voters.append(Voter(int(match[1]), match[2]))
        ids = [voter.node_id for voter in voters]
        if len(set(ids)) != len(ids):
            raise ValueError("a node id appears twice")
        return tuple(sorted(voters))

    @field_validator("security", mode="before")
    @classmethod
    def _required_is_on(cls, value: object) -> object:
        return "on" if value == "required" else value

    @field_validator("super_users", mode="before")
    @classmethod
    def _parse_principals(cls, value: object) -> object:
        items = [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple | set | frozenset):
            raise ValueError("a list of User:NAME is allowed, with ; between them")
        for item in items:
            kind, _, name = str(item).partition(":")
            if kind != "User" or not name or name == "*":
                raise ValueError(f"{item!r} is not User:NAME")
        return frozenset(map(str, items))

    @field_validator(
        "listeners_public",
        "listeners_control",
        "listeners_replication",
        "listeners_http",
        "advertised_public",
        "advertised_control",
        "advertised_replication",
    )
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("listeners_kafka", "advertised_kafka")
    @classmethod
    def _check_named(cls, value: str, info: ValidationInfo) -> str:
        if not (value == OFF and info.field_name == "listeners_kafka"):
            _by_name(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        self._check_ports()
        for key in ("public", "control", "replication"):
            split_address(self.advertised(key))
        unknown = _by_name(self.advertised_kafka).keys() - {each.name for each in self.kafka_listeners}
        if unknown:
            raise ValueError(f"advertised.kafka has {', '.join(sorted(unknown))}, which is no listener for Kafka here")
        self._check_own_voter()
        if self.public_authentication == "token" and self.security == "off" and self.kafka_authentication == "off":
            self._check_the_other_door()
        if self.broker_heartbeat_interval_ms * 2 > self.broker_session_timeout_ms:
            raise ValueError(
                f"broker.heartbeat.interval.ms {self.broker_heartbeat_interval_ms} must be at most half of "
                f"broker.session.timeout.ms {self.broker_session_timeout_ms}"
            )
        if self.security != "off" and None in self._tls_paths:
            raise ValueError(
                f"security is {self.security}: set tls.dir, or tls.ca, tls.cert and tls.key, or turn it off"
            )
        if self.authorizer == "acl" and self.security != "on":
            raise ValueError("authorizer is acl, and without security=on nobody proves who he is: turn that on first")
        if self.authorizer == "acl" and not self.super_users:
            raise ValueError(
                "authorizer is acl, and nobody could give the first right: name whoever administrates the cluster in "
                "super.users, as in User:admin"
            )
        return self

    def _check_ports(self) -> None:
        """Two listeners cannot have one port: what dials the one would take the other for it."""
        taken: dict[int, list[tuple[str, str]]] = {}
        for name, address in self._bound:
            host, _, digits = address.rpartition(":")
            port = int(digits)
            if port > PORT_MAX:
                raise ValueError(
                    f"base.port {self.base_port} gives node {self.node_id} port {port} for its {name} listener, and "
                    f"{PORT_MAX} is the highest there is"
                )
            for other, there in taken.get(port, ()):
                if port and (host == there or {host, there} & WILDCARDS):
                    raise ValueError(
                        f"the {name} listener has {address}, and the {other} one has that port, too: set "
                        f"listeners.{name}, listeners.{other} or base.port"
                    )
            taken.setdefault(port, []).append((name, host))

    def _check_own_voter(self) -> None:
        """Ports were 100 lower once: what a cluster knows as this node's quorum must not be another listener now."""
        address = dict(self.controller_quorum_voters).get(self.node_id)
        if address is None:
            return
        port = split_address(address)[1]
        if port == split_address(self.advertised("control"))[1]:
            return
        for name, there in self._bound:
            if name != "control" and port == split_address(there)[1]:
                raise ValueError(
                    f"controller.quorum.voters has this node's quorum at {address}, the port of its {name} listener; "
                    f"its control listener is at {self.advertised('control')}. Give the voters that port, or set "
                    f"base.port (before it was 9192 by default it was 9092)"
                )

    def _check_the_other_door(self) -> None:
        """What is open by default must not lead around a login."""
        if not self.listeners_kafka:
            raise ValueError(
                "public.authentication is token, and clients of Kafka would come in without a login: set "
                "kafka.authentication=sasl, or listeners.kafka=off"
            )

    @property
    def _bound(self) -> list[tuple[str, str]]:
        """This node's listeners, and where they are."""
        own = [(name, self.listener(name)) for name in _PORT_OFFSETS if name != KAFKA]
        return own + [(each.name, each.address) for each in self.kafka_listeners]

    @property
    def serves_kafka(self) -> bool:
        return self.listeners_kafka != OFF

    @property
    def kafka_listeners(self) -> tuple[KafkaListener, ...]:
        """Raises ValueError where nobody could dial one."""
        if not self.serves_kafka:
            return ()
        given, said = _by_name(self.listeners_kafka) or {KAFKA: self._at(KAFKA)}, _by_name(self.advertised_kafka)
        return tuple(
            KafkaListener(name, address, said.get(name) or self._as_clients_dial(address), name in said)
            for name, address in given.items()
        )

    def _as_clients_dial(self, address: str) -> str:
        """At the host at which those of gRPC find this node."""
        host, port = split_address(address)
        if self.advertised_host or host in WILDCARDS:
            host = self.advertised_host or split_address(self.advertised("public"))[0]
        return f"{host}:{port}"

    @property
    def access_rules(self) -> Rules:
        return Rules(
            self.authorizer != "off",
            self.super_users,
            self.allow_everyone_if_no_acl_found,
            audits=self.authorizer == "audit",
        )

    @property
    def _tls_paths(self) -> tuple[Path | None, ...]:
        given = (self.tls_ca, self.tls_cert, self.tls_key)
        if not self.tls_dir:
            return tuple(Path(each) if each else None for each in given)
        return tuple(
            Path(each) if each else beside for each, beside in zip(given, Files.within(Path(self.tls_dir)), strict=True)
        )

    @property
    def tls_files(self) -> Files:
        """With security on: this node's certificate, its key, and whom it trusts."""
        ca, cert, key = self._tls_paths
        assert ca is not None, "checked with the settings"
        assert cert is not None, "checked with the settings"
        assert key is not None, "checked with the settings"
        return Files(ca, cert, key)

    def listener(self, name: str) -> str:
        """host:port of the listener `public`, `control`, `replication` or `http`."""
        given: str = getattr(self, f"listeners_{name}")
        return given or self._at(name)

    def _at(self, name: str) -> str:
        """host:port of a listener of which nothing is said."""
        return f"{self.listen_host}:{self.base_port + _PORT_OFFSETS[name] + self.node_id - 1}"

    def advertised(self, name: str) -> str:
        """host:port that others dial for `public`, `control` or `replication`. Raises ValueError."""
        given: str = getattr(self, f"advertised_{name}")
        return given or self._dialled(name, self.listener(name))

    def _dialled(self, name: str, address: str) -> str:
        host, port = split_address(address)
        host = self.advertised_host or host
        if host in WILDCARDS:
            raise ValueError(
                f"the {name} listener is bound to {host}, which nobody can dial: "
                "set advertised.host to a name of this node that the others know"
            )
        return f"{host}:{port}"

    @property
    def open_listeners(self) -> tuple[str, ...]:
        """Those that whoever reaches them may use for whatever they are for: not on loopback, and without TLS."""
        if self.security == "on":
            return ()
        return tuple(
            name for name, address in self._bound if name != "http" and not _is_loopback(split_address(address)[0])
        )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What this node tells the cluster of its other listeners."""
        found = [(each.name, *split_address(each.advertised)) for each in self.kafka_listeners]
        return tuple(Endpoint(name, host.strip("[]"), port) for name, host, port in found)

    @property
    def voters(self) -> tuple[Voter, ...]:
        """The configured voters; without any, this node alone."""
        return self.controller_quorum_voters or (Voter(self.node_id, self.advertised("control")),)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


_PORT_OFFSETS: Final = {"public": 0, "control": 100, "replication": 200, "http": 300, KAFKA: KAFKA_OFFSET}


def key_of(field: str) -> str:
    """The dotted name of a field: `node_id` is `node.id`."""
    return field.replace("_", ".")


def keys() -> list[str]:
    """Every key that a node takes."""
    return [*(key_of(field) for field in Settings.model_fields if field != "broker_configs"), *BROKER_KEYS]


def load(path: Path | None, flags: Iterable[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings; `flags` are `key=value`. Raises ConfigError with one line per wrong key."""
    from_file, file_configs = _sort_out(_read_file(path), f"file {path}")
    from_flags, flag_configs = _sort_out(_read_flags(flags), "flag --set")
    from_env, env_configs = _sort_out(_read_environment(environ), "environment")
    configs = file_configs | env_configs | flag_configs
    for key, text in configs.items():
        if BROKER_KEYS[key].of_one:
            raise ConfigError(f"{key} is set at run time: run `ottla node drain`")
        try:
            BROKER_KEYS[key].parse(text)
        except ApiError as error:
            raise ConfigError(f"{key}: {error.message}") from None
    sources = {"flag --set": from_flags, "environment": from_env, f"file {path}": from_file}
    try:
        return Settings.model_validate({**from_file, **from_env, **from_flags, "broker_configs": configs})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item, sources) for item in error.errors())) from None


def unknown_in_environment(environ: Mapping[str, str] = os.environ) -> list[str]:
    """OTTLA_ variables that no setting reads. Not an error: container platforms make such names up by themselves."""
    known = {_env(key) for key in keys()} | ENV_OF_CLIENTS
    return sorted(name for name in environ if name.startswith(ENV_PREFIX) and name not in known)


def _env(key: str) -> str:
    return ENV_PREFIX + key.replace(".", "_").upper()


def _read_file(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return dict(_flatten(tomllib.load(file), ""))
    except OSError as error:
        raise ConfigError(f"the config file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file {path} is not TOML: {error}") from None


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, object]]:
    """TOML reads `node.id = 1` as a table in a table; a quoted "node.id" is the same key."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _read_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """An empty variable is none: compose files pass on what is not set as an empty text."""
    return {key: environ[_env(key)] for key in keys() if environ.get(_env(key))}


def _read_flags(flags: Iterable[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            raise ConfigError(f"--set {flag}: write it as key=value")
        found[key.strip()] = value.strip()
    return found


def _sort_out(values: Mapping[str, object], source: str) -> tuple[dict[str, object], dict[str, str]]:
    """Splits settings of the process from broker configs; refuses what is neither."""
    known = keys()
    settings: dict[str, object] = {}
    configs: dict[str, str] = {}
    wrong: list[str] = []
    for key, value in values.items():
        if key in BROKER_KEYS:
            configs[key] = str(value).lower() if isinstance(value, bool) else str(value)
        elif key in known:
            settings[key.replace(".", "_")] = value
        else:
            near = difflib.get_close_matches(key, known, n=1)
            wrong.append(f"{key} ({source}) is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return settings, configs


def _explain(error: Any, sources: Mapping[str, Mapping[str, object]]) -> str:
    """One line for the operator. `sources`: what each gave, the first one wins."""
    message = str(error["msg"]).removeprefix("Value error, ")
    field = str(error["loc"][0]) if error["loc"] else ""
    if not field:
        return message
    key = key_of(field)
    if error["type"] == "missing":
        return f"{key} is not set: give it in the config file, as {_env(key)}, or with --set {key}=..."
    source = next((name for name, values in sources.items() if field in values), "default")
    if source == "environment":
        source += f" {_env(key)}"
    given = f" = {error['input']!r}" if isinstance(error["input"], str | int | float) else ""
    return f"{key}{given} ({source}): {message[:1].lower()}{message[1:]}"
