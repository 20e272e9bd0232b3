"""`ottla acl`: who may do what."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json, Yes

if TYPE_CHECKING:
    from ottla import Acl

app = typed.Group("List, add, remove and test ACLs: who may do what.")

Who = Annotated[str, typed.Argument(metavar="User:NAME", help="User:* is everybody.")]
Principal = Annotated[str | None, typed.Option("--principal", metavar="User:NAME", help="Of this principal.")]
OnTopic = Annotated[str | None, typed.Option("--topic", metavar="NAME", help="On this topic; '*' is every one.")]
OnGroup = Annotated[str | None, typed.Option("--group", metavar="NAME", help="On this group; '*' is every one.")]
OnCluster = Annotated[bool, typed.Option("--cluster", help="On the cluster.")]
Operation = Annotated[str | None, typed.Option("--operation", metavar="NAME", help="As read, write, describe, all.")]
Prefixed = Annotated[bool, typed.Option("--prefixed", help="On all whose names begin so.")]
Host = Annotated[str, typed.Option("--host", metavar="ADDRESS", help="From this address; '*' is every one.")]
CLUSTER_NAME = "kafka-cluster"


@app.verb("list")
def list_acls(
    principal: Principal = None,
    topic: OnTopic = None,
    group: OnGroup = None,
    cluster: OnCluster = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """List ACLs; of a resource, all that count for it.

    \b
    Examples:
      ottla acl list
      ottla acl list --topic orders
      ottla acl list --principal User:alice
    """
    from ottla.cli.connect import with_admin

    resource = _one(topic, group, cluster)
    found = with_admin(
        bootstrap,
        lambda admin: admin.list_acls(
            principal=principal,
            resource_type=resource[0] if resource else None,
            resource_name=resource[1] if resource else None,
            pattern_type="match" if resource else None,
        ),
    )
    _print(found, as_json)


@app.verb()
def add(
    principal: Who,
    operation: Operation = None,
    producer: Annotated[bool, typed.Option("--producer", help="What producing to --topic takes.")] = False,
    consumer: Annotated[bool, typed.Option("--consumer", help="What consuming --topic in --group takes.")] = False,
    topic: OnTopic = None,
    group: OnGroup = None,
    cluster: OnCluster = False,
    prefixed: Prefixed = False,
    deny: Annotated[bool, typed.Option("--deny", help="Deny it, whatever else allows it.")] = False,
    host: Host = "*",
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Allow somebody something, or deny it. What is there already stays.

    \b
    Examples:
      ottla acl add User:billing --producer --topic orders
      ottla acl add User:reports --consumer --topic orders --group reports- --prefixed
      ottla acl add User:alice --operation describe --cluster
      ottla acl add 'User:*' --operation delete --topic orders --deny
    """
    from ottla.cli.connect import with_admin

    new = _new(principal, operation, producer, consumer, topic, group, cluster, prefixed, deny, host)
    with_admin(bootstrap, lambda admin: admin.create_acls(new, validate_only=dry_run))
    _print(new, as_json)


@app.verb()
def remove(
    principal: Principal = None,
    operation: Operation = None,
    topic: OnTopic = None,
    group: OnGroup = None,
    cluster: OnCluster = False,
    prefixed: Prefixed = False,
    sure: Yes = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Remove the ACLs that all of this fits, and show them. Open streams are asked again. Asks first on a terminal.

    \b
    Examples:
      ottla acl remove --principal User:alice --yes
      ottla acl remove --topic orders --operation write --yes
    """
    from ottla.cli.connect import with_admin

    resource = _one(topic, group, cluster)
    if principal is None and resource is None:
        raise Failure("INVALID_REQUEST", "nothing says which ACLs", "name --principal, --topic, --group or --cluster")

    def removed(dry: bool) -> "list[Acl]":
        return with_admin(
            bootstrap,
            lambda admin: admin.delete_acls(
                principal=principal,
                operation=operation,
                resource_type=resource[0] if resource else None,
                resource_name=resource[1] if resource else None,
                pattern_type=("prefixed" if prefixed else "literal") if resource else None,
                validate_only=dry,
            ),
        )

    if not sure and not dry_run and sys.stdin.isatty():
        click.confirm(f"Remove {len(removed(True))} ACLs?", abort=True, err=True)
    _print(removed(dry_run), as_json)


@app.verb("test")
def ask(
    principal: Who,
    operation: Annotated[str, typed.Argument(metavar="OPERATION")],
    topic: OnTopic = None,
    group: OnGroup = None,
    cluster: OnCluster = False,
    host: Annotated[str, typed.Option("--host", metavar="ADDRESS", help="Coming from this address.")] = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Tell whether somebody may do something, and which ACL says so. Exit code 1: no.

    \b
    Examples:
      ottla acl test User:alice write --topic orders
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, printable

    resource = _one(topic, group, cluster)
    if resource is None:
        raise Failure("INVALID_REQUEST", "nothing says on what", "name --topic, --group or --cluster")
    told = with_admin(bootstrap, lambda admin: admin.test_acl(principal, operation, *resource, host=host))
    if as_json:
        print_json({"allowed": told.allowed, "reason": told.reason, "acl": asdict(told.acl) if told.acl else None})
    else:
        print(f"{'yes' if told.allowed else 'no'}: {printable(told.reason)}")
    if not told.allowed:
        raise click.exceptions.Exit(1)


def _new(
    principal: str,
    operation: str | None,
    producer: bool,
    consumer: bool,
    topic: str | None,
    group: str | None,
    cluster: bool,
    prefixed: bool,
    deny: bool,
    host: str,
) -> "list[Acl]":
    from ottla import Acl

    pattern, permission = "prefixed" if prefixed else "literal", "deny" if deny else "allow"

    def acl(what: str, kind: str, name: str) -> Acl:
        # Every name is a literal pattern, and so is the one of the cluster.
        return Acl(
            principal, what, kind, name, "literal" if name == "*" or kind == "cluster" else pattern, permission, host
        )

    if (operation is not None) + producer + consumer != 1:
        raise Failure("INVALID_REQUEST", "one of --operation, --producer and --consumer is needed", "name one of them")
    if producer:
        if topic is None or group is not None or cluster:
            raise Failure("INVALID_REQUEST", "--producer is about topics", "name --topic, and neither of the others")
        return [acl("write", "topic", topic)]
    if consumer:
        if topic is None or group is None or cluster:
            raise Failure("INVALID_REQUEST", "--consumer is about a topic and a group", "name --topic and --group")
        return [acl("read", "topic", topic), acl("read", "group", group)]
    resource = _one(topic, group, cluster)
    if resource is None:
        raise Failure("INVALID_REQUEST", "nothing says on what", "name --topic, --group or --cluster")
    assert operation is not None
    return [acl(operation, *resource)]


def _one(topic: str | None, group: str | None, cluster: bool) -> tuple[str, str] | None:
    given = [(kind, name) for kind, name in (("topic", topic), ("group", group)) if name is not None]
    if cluster:
        given.append(("cluster", CLUSTER_NAME))
    if len(given) > 1:
        raise Failure("INVALID_REQUEST", "more than one resource is named", "name one of --topic, --group, --cluster")
    return given[0] if given else None


def _print(acls: "list[Acl]", as_json: bool) -> None:
    from ottla.cli.output import print_json, print_table

    if as_json:
        print_json([asdict(acl) for acl in acls])
        return
    rows = [
        (a.permission, a.principal, a.operation, a.resource_type, a.resource_name, a.pattern_type, a.host) for a in acls
    ]
    print_table(("PERMISSION", "PRINCIPAL", "OPERATION", "TYPE", "NAME", "PATTERN", "HOST"), rows)
