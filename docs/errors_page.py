"""Writes docs/errors.md from the contract: `python docs/errors_page.py`. A test fails when the page is not fresh.

When an error happens is the comment of its code in proto/ottla/v1/error.proto; what to do is the table that clients and
servers act by, `ottla.protocol.errors.RULES`. So the page cannot say anything else than they do.
"""

import re
from pathlib import Path
from typing import Final

from ottla.protocol.errors import RULES, name_of

ROOT: Final = Path(__file__).resolve().parent.parent
PROTO: Final = ROOT / "proto/ottla/v1/error.proto"
PAGE: Final = ROOT / "docs/errors.md"

_ENUM: Final = re.compile(r"enum ErrorCode \{(.*?)^\}", re.DOTALL | re.MULTILINE)
_VALUE: Final = re.compile(r"((?:^ *//.*\n)+) *ERROR_CODE_(\w+) = (-?\d+);", re.MULTILINE)

_INTRODUCTION: Final = """\
# Errors

Written by `python docs/errors_page.py`; don't edit it by hand.

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


def page() -> str:
    """The whole page."""
    rows = []
    for number, (name, when) in codes().items():
        rule = RULES[number]
        assert name == name_of(number)
        yes = ("yes" if rule.retriable else "no", "yes" if rule.refresh_metadata else "no")
        next_step = rule.next_step[0].upper() + rule.next_step[1:]
        rows.append(f"| {number} | `{name}` | {when} | {yes[0]} | {yes[1]} | {rule.grpc_status} | {next_step}. |")
    return _INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
