"""Writes docs/errors.md and docs/configuration.md: `python docs/pages.py`. A test fails when they are not fresh.

When an error happens is the comment of its code in proto/ottla/v1/error.proto; what to do is the table that clients and
servers act by, `ottla.protocol.errors.RULES`. Settings are what nodes read: `node.config.Settings` with its comments,
and the tables of `ottla.protocol.configs`. So the pages cannot say anything else than the code does.
"""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from node.config import ENV_PREFIX, Settings, key_of
from node.limits import BOUNDS
from ottla.protocol.configs import BROKER_KEYS, INT_MAX, LONG_MAX, TOPIC_KEYS, ConfigKey
from ottla.protocol.errors import RULES, name_of

ROOT: Final = Path(__file__).resolve().parent.parent
PROTO: Final = ROOT / "proto/ottla/v1/error.proto"

_ENUM: Final = re.compile(r"enum ErrorCode \{(.*?)^\}", re.DOTALL | re.MULTILINE)
_VALUE: Final = re.compile(r"((?:^ *//.*\n)+) *ERROR_CODE_(\w+) = (-?\d+);", re.MULTILINE)
_SETTING: Final = re.compile(r"    (\w+): ")
_COMMENT: Final = re.compile(r"    # (.*)")

_ERRORS: Final = """\
# Errors

Written by `python docs/pages.py`; don't edit it by hand.

Codes have the numbers and names of Apache Kafka's `Errors`. Requests with several items answer with one `Error` for
each item that failed (`proto/ottla/v1/error.proto`): the code, a sentence with the cause and the facts, whether a retry
can help, and the leader's address where the node knows it. A gRPC status is used only where a call fails as a whole.

- *retry*: the same request can succeed later. The Python client does that by itself, with back-off, until its time-out.
- *metadata*: read the metadata again before the retry.
- A write that ended with REQUEST_TIMED_OUT, NETWORK_EXCEPTION or NOT_ENOUGH_REPLICAS_AFTER_APPEND is **unknown**, not
  failed: it may be in the log. Sent again by an idempotent producer, with the same sequence, it is stored once.
- Codes about transactions, quotas, share groups and authorization are reserved: this version has none of these.
- A client that meets a code which is not listed here goes by the `retriable` field of the `Error`.

| code | name | when | retry | metadata | gRPC status | what to do |
|---:|---|---|---|---|---|---|
"""

_CONFIGURATION: Final = """\
# Configuration

Written by `python docs/pages.py`; don't edit it by hand.

A node reads a TOML file (`ottla node --config FILE`), the environment and `--set KEY=VALUE` flags; flags win over the
environment, and that over the file. `broker.session.timeout.ms` is `OTTLA_BROKER_SESSION_TIMEOUT_MS` in the
environment. Names are Kafka's where Kafka has the setting. A wrong key or value stops the node at its start with the
key, where it came from, and what is allowed; an `OTTLA_` variable that no setting reads is only warned about in the
log, for container platforms make such names up.

Clients and the `ottla` command read `OTTLA_BOOTSTRAP`, host:port of some nodes; without it 127.0.0.1:9192. For a
cluster with TLS they read `OTTLA_TLS_DIR`, or `OTTLA_TLS_CA`, `OTTLA_TLS_CERT` and `OTTLA_TLS_KEY`, and to log in
`OTTLA_USER` and `OTTLA_PASSWORD_FILE` (docs/security.md).

## Of a node, at its start
"""

_BROKER: Final = """
## Of topics that do not say otherwise, and of the cluster

In a node's file, environment or flags, or at run time with AlterConfigs for one broker or all. A topic's own config
wins over one broker's, that over all brokers', that over the node's file. `ottla config describe --broker 1` shows what
is in force and where it comes from.

| name | default | allowed | config of a topic |
|---|---|---|---|
"""

_TOPIC: Final = """
## Of a topic

`ottla topic create T --config K=V`, `ottla topic alter T --config K=V`, `ottla config describe --topic T`.

| name | default | allowed | what it means |
|---|---|---|---|
"""


_BOUNDS: Final = """
## What one request, and all together, may cost

No request of a client may cost the others their second, so each kind of work has a bound. They are checked before any
work is done; the error says what was asked, the limit and what to do. Settings named here are above.

| what | limit | above it | what to do |
|---|---|---|---|
"""


def codes() -> dict[int, tuple[str, str]]:
    """Number -> (name, when it happens), in the proto's order, success left out."""
    enum = _ENUM.search(PROTO.read_text())
    if enum is None:
        raise ValueError(f"no enum ErrorCode in {PROTO}")
    found: dict[int, tuple[str, str]] = {}
    for comment, name, number in _VALUE.findall(enum.group(1)):
        when = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
        if int(number) != 0:
            found[int(number)] = (name, when)
    return found


def errors_page() -> str:
    """The whole page of errors."""
    rows = []
    for number, (_, when) in codes().items():
        rule = RULES[number]
        retry, metadata = ("yes" if flag else "no" for flag in (rule.retriable, rule.refresh_metadata))
        next_step = rule.next_step[0].upper() + rule.next_step[1:]
        name = name_of(number)
        rows.append(f"| {number} | `{name}` | {when} | {retry} | {metadata} | {rule.grpc_status} | {next_step}. |")
    return _ERRORS + "\n".join(rows) + "\n"


def configuration_page() -> str:
    """The whole page of settings."""
    broker = [
        f"| `{name}` | {_default(key)} | {_allowed(key)} | {f'`{key.name}`' if key.name in TOPIC_KEYS else key.doc} |"
        for name, key in sorted(BROKER_KEYS.items())
    ]
    topic = [
        f"| `{name}` | {_default(key)} | {_allowed(key)} | {key.doc} |" for name, key in sorted(TOPIC_KEYS.items())
    ]
    bounds = [f"| {what} | {limit} | {refusal} | {next_step} |" for what, limit, refusal, next_step in BOUNDS]
    return "".join(
        [
            _CONFIGURATION,
            *_node_settings(),
            _BOUNDS,
            "\n".join(bounds),
            "\n",
            _BROKER,
            "\n".join(broker),
            "\n",
            _TOPIC,
            "\n".join(topic),
            "\n",
        ]
    )


def _node_settings() -> Iterable[str]:
    """A table for each comment in the class, in its order."""
    comment: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if note := _COMMENT.match(line):
            comment.append(note[1])
        elif (setting := _SETTING.match(line)) and setting[1] in Settings.model_fields:
            if setting[1] == "broker_configs":
                continue
            if comment:
                yield "\n" + " ".join(comment) + "\n\n| name | default | environment |\n|---|---|---|\n"
                comment = []
            default = Settings.model_fields[setting[1]]
            shown = "must be given" if default.is_required() else _plain(default.default)
            yield f"| `{key_of(setting[1])}` | {shown} | `{ENV_PREFIX}{setting[1].upper()}` |\n"
        elif line.strip().startswith("@"):
            return
        else:
            comment = []


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value not in ("", (), None) else "-"


def _default(key: ConfigKey) -> str:
    return "depends on the topic" if key.default is None else key.default or "(empty)"


def _allowed(key: ConfigKey) -> str:
    if key.kind == "boolean":
        return "true, false"
    if key.choices:
        return ", ".join(key.choices)
    if key.high >= LONG_MAX:
        return f"from {int(key.low)}"
    return f"{int(key.low)} to {'2^31 - 1' if key.high == INT_MAX else int(key.high)}"


PAGES: Final = {ROOT / "docs/errors.md": errors_page, ROOT / "docs/configuration.md": configuration_page}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
