"""`ottla cluster voter` and `ottla cluster transfer`: who votes in the metadata quorum, and who leads it."""

import time
from typing import TYPE_CHECKING, Annotated

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json, NodeId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ottla import Admin
    from ottla.client.quorum_admin import Quorum

app = typed.Group("Change who votes in the metadata quorum, one node at a time.")

Directory = Annotated[
    str | None,
    typed.Option("--directory", metavar="HEX", help="The data directory's id, where a node had several."),
]
_TRANSFER_S = 10.0


@app.verb()
def add(
    node: NodeId, directory: Directory = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False
) -> None:
    """Let a node that has caught up vote.

    \b
    Examples:
      ottla cluster voter add 4
    """
    directory_id = _directory_id(directory)

    async def work(admin: "Admin") -> "Quorum":
        await admin.add_voter(node, directory_id)
        return await admin.describe_quorum()

    _change(work, bootstrap, as_json, f"node {node} votes")


@app.verb()
def remove(
    node: NodeId, directory: Directory = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False
) -> None:
    """Take a node's vote away; it goes on following. A wiped disk: remove its node, then add it.

    \b
    Examples:
      ottla cluster voter remove 3
    """
    directory_id = _directory_id(directory)

    async def work(admin: "Admin") -> "Quorum":
        await admin.remove_voter(node, directory_id)
        return await admin.describe_quorum()

    _change(work, bootstrap, as_json, f"node {node} votes no longer")


def transfer(
    to: Annotated[int | None, typed.Option("--to", metavar="NODE", help="Else the most complete log.", min=1)] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Hand the quorum's leadership to another voter. The active controller goes with it.

    \b
    Examples:
      ottla cluster transfer --to 2
    """
    from asyncio import sleep

    async def work(admin: "Admin") -> "Quorum":
        before = await admin.describe_quorum()
        if before.leader_id is not None and to == before.leader_id:
            return before
        await admin.transfer_leadership(to)
        deadline = time.monotonic() + _TRANSFER_S
        while time.monotonic() < deadline:
            now = await admin.describe_quorum()
            if now.leader_id is not None and now.leader_epoch > before.leader_epoch:
                return now
            await sleep(0.05)
        raise Failure(
            "REQUEST_TIMED_OUT",
            f"nobody took over in {_TRANSFER_S:.0f} s",
            "look at `ottla cluster quorum` for the lag",
        )

    _change(work, bootstrap, as_json, "")


def _directory_id(text: str | None) -> bytes:
    try:
        directory_id = bytes.fromhex(text or "")
    except ValueError:
        directory_id = b"?"
    if len(directory_id) not in (0, 16):
        raise Failure(
            "INVALID_VOTER_KEY", f"{text!r} is not 32 hexadecimal digits", "`ottla cluster quorum` shows directory ids"
        )
    return directory_id


def _change(work: "Callable[[Admin], Awaitable[Quorum]]", bootstrap: str, as_json: bool, done: str) -> None:
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    quorum = with_admin(bootstrap, work)
    voters = [voter.node_id for voter in quorum.voters]
    if as_json:
        print_json({"leader": quorum.leader_id, "leader_epoch": quorum.leader_epoch, "voters": voters})
        return
    if done:
        print(f"{done}; the voters are {', '.join(map(str, voters))}.")
    else:
        print(f"Node {quorum.leader_id} leads, epoch {quorum.leader_epoch}.")
