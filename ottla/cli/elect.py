"""`ottla topic elect`: leadership back to the preferred replicas, or to one that may lack records."""

import sys
from typing import TYPE_CHECKING, Annotated

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla.v1 import admin_pb2

_TIMEOUT_MS = 20_000


def elect(
    name: Annotated[str, typed.Argument(metavar="TOPIC")],
    partition: Annotated[int | None, typed.Option("--partition", help="Only this one; else all.", min=0)] = None,
    unclean: Annotated[
        bool, typed.Option("--unclean", help="Where nobody leads, elect a live replica, which may lose records.")
    ] = False,
    sure: Annotated[bool, typed.Option("--yes", help="Don't ask before an unclean election.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Give leadership to the preferred replicas. With --unclean to any live one, after a look at
    what may be lost.

    \b
    Examples:
      ottla topic elect orders
      ottla topic elect orders --partition 3 --unclean
    """
    from ottla.cli.output import print_json, tell

    if unclean:
        plan = _elections(bootstrap, name, partition, unclean=True, validate_only=True)
        if plan and not sure:
            tell(f"An unclean election in {name} loses acknowledged records for good:")
            for result in plan:
                tell(f"  partition {result.partition.partition}: node {result.leader_id}, {_at_risk(result)}")
            if not sys.stdin.isatty():
                raise Failure("NOT_CONFIRMED", "nobody is here to be asked", "say --yes if the loss is accepted")
            click.confirm("Go ahead?", abort=True, err=True)
    held = _elections(bootstrap, name, partition, unclean=unclean, validate_only=False)
    if as_json:
        print_json(
            [
                {
                    "topic": name,
                    "partition": result.partition.partition,
                    "leader": result.leader_id,
                    "records_at_risk": None if result.records_at_risk < 0 else result.records_at_risk,
                }
                for result in held
            ]
        )
        return
    for result in held:
        print(f"{name}-{result.partition.partition} is led by node {result.leader_id}.")
    if not held:
        print("Nothing had to change.")


def _at_risk(result: "admin_pb2.ElectLeadersResult") -> str:
    if result.records_at_risk < 0:
        return "nobody knows how many: a replica that had everything does not answer"
    return f"at most {result.records_at_risk} records are lost"


def _elections(
    bootstrap: str, name: str, partition: int | None, *, unclean: bool, validate_only: bool
) -> "list[admin_pb2.ElectLeadersResult]":
    """The elections that change something. Raises what a node said about one that is needed and cannot be held."""
    from ottla.cli.connect import connection, run
    from ottla.v1 import admin_pb2, data_pb2
    from ottla.v1 import error_pb2 as pb

    def needed(answer: admin_pb2.ElectLeadersResponse) -> list[admin_pb2.ElectLeadersResult]:
        return [r for r in answer.partitions if r.error.code != pb.ERROR_CODE_ELECTION_NOT_NEEDED]

    async def work() -> list[admin_pb2.ElectLeadersResult]:
        from ottla import Admin
        from ottla.v1.admin_pb2_grpc import AdminServiceStub

        async with connection(bootstrap) as client, Admin(client) as admin:
            numbers = [p.partition for p in (await admin.describe_topic(name)).partitions]
            request = admin_pb2.ElectLeadersRequest(
                type=admin_pb2.ELECTION_TYPE_UNCLEAN if unclean else admin_pb2.ELECTION_TYPE_PREFERRED,
                partitions=[
                    data_pb2.TopicPartition(topic=name, partition=number)
                    for number in (numbers if partition is None else [partition])
                ],
                validate_only=validate_only,
            )
            answer = await client.until_done(
                lambda channel: AdminServiceStub(channel).ElectLeaders(request, timeout=_TIMEOUT_MS / 1000),
                _TIMEOUT_MS,
                lambda answer: [r.error for r in needed(answer)],
                repeatable=False,
            )
            return needed(answer)

    return run(work())
