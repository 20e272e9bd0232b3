"""`ottla secure`: the certificates of a cluster."""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import Json

if TYPE_CHECKING:
    from ottla.secure.issue import Asked, Authority
    from ottla.secure.judge import Holder

app = typed.Group("Make, renew and check the cluster's certificates.")

Directory = Annotated[Path, typed.Argument(metavar="DIR", help="Where all of a cluster's certificates are.")]
Days = Annotated[int, typed.Option("--days", min=1, max=3650, help="How long they are valid.")]
San = Annotated[
    list[str] | None,
    typed.Option(
        "--san", metavar="[N=]NAME", help="A host name or address that nodes, or node N, are dialled by; repeatable."
    ),
]
_DIRECTORY = Path("ottla-secure")
_NODES_MAX = 1000


@app.verb()
def init(
    directory: Directory = _DIRECTORY,
    nodes: Annotated[int, typed.Option("--nodes", min=1, max=_NODES_MAX, help="Nodes 1 to that many.")] = 3,
    san: San = None,
    client: Annotated[str, typed.Option("--client", metavar="NAME", help="The first client's name.")] = "admin",
    cluster_id: Annotated[
        str | None, typed.Option("--cluster-id", metavar="HEX", help="Of a cluster that exists; else one is drawn.")
    ] = None,
    days: Days = 365,
    compose: Annotated[
        bool,
        typed.Option("--compose", help="For deploy/compose.secure.yaml: its nodes' names, keys that your group reads."),
    ] = False,
    replace_ca: Annotated[
        bool, typed.Option("--replace-ca", help="Replace a CA that is there, and every certificate.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a CA, a certificate for each node and one for a client.

    \b
    Examples:
      ottla secure init --nodes 3
      ottla secure init prod --san 1=node-1.example.com --san 2=node-2.example.com
      ottla secure init --compose
    """
    from ottla.secure.issue import Authority, asked_client, asked_node, let_group_read

    with _explained():
        names = _names([*(san or ()), *(f"{i}=ottla-{i}" for i in range(1, nodes + 1) if compose)], nodes)
        wanted = [asked_node(i, names(i)) for i in range(1, nodes + 1)] + [asked_client(client)]
        if compose:
            wanted.append(asked_client("prometheus"))
        if not replace_ca and not (directory / "ca").exists():
            _check_free(directory, wanted)
        authority = Authority.make(directory, cluster_id, replace=replace_ca)
        for each in wanted:
            authority.issue(each, days, replace=replace_ca)
            if compose and each.common_name != client:
                let_group_read(authority.home(each))
    _show(authority, wanted, as_json)
    if not as_json:
        print(
            f"Keep {directory / 'ca'} to yourself: whoever has ca.key makes certificates of this cluster. Each of the\n"
            "other directories goes, whole, to the node or client that it is named after."
        )
        if compose:
            print(
                f"Next: OTTLA_SECURE={shlex.quote(str(directory.resolve()))} OTTLA_GID={os.getgid()} docker compose "
                "-f deploy/compose.yaml -f deploy/compose.secure.yaml up -d --wait"
            )


@app.verb()
def add(
    directory: Directory = _DIRECTORY,
    node: Annotated[
        list[int] | None, typed.Option("--node", min=1, max=2**31 - 1, metavar="N", help="A node's id; repeatable.")
    ] = None,
    client: Annotated[
        list[str] | None, typed.Option("--client", metavar="NAME", help="A client's name; repeatable.")
    ] = None,
    san: San = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Make certificates for more nodes or clients.

    \b
    Examples:
      ottla secure add --node 4 --san node-4.example.com
      ottla secure add --client billing
    """
    from ottla.secure.issue import Authority, asked_client, asked_node

    if not node and not client:
        raise click.BadParameter("say for whom", param_hint="--node or --client")
    with _explained():
        names = _names(san, max(node or [0]))
        wanted = [asked_node(i, names(i)) for i in node or ()] + [asked_client(name) for name in client or ()]
        authority = Authority.open(directory)
        _check_free(directory, wanted)
        for each in wanted:
            authority.issue(each, days, replace=False)
    _show(authority, wanted, as_json)


@app.verb()
def renew(
    directory: Directory = _DIRECTORY,
    only: Annotated[
        list[str] | None, typed.Option("--only", metavar="NAME", help="Of these alone: node-1, admin; repeatable.")
    ] = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Replace certificates and keys; the CA stays.

    Nodes and clients take new files by themselves, without a restart.

    \b
    Examples:
      ottla secure renew
      ottla secure renew --only node-2 --days 90
    """
    from ottla.secure.issue import Authority

    with _explained():
        authority = Authority.open(directory)
        wanted = [each for each in authority.issued() if not only or each.common_name in only]
        unknown = sorted(set(only or ()) - {each.common_name for each in wanted})
        if unknown or not wanted:
            raise Failure(
                "INVALID_REQUEST",
                f"there is no certificate of {', '.join(unknown) or 'anybody'} in {directory}",
                "`ottla secure status` shows which there are, `ottla secure add` makes more",
            )
        for each in wanted:
            authority.issue(each, days, replace=True)
    _show(authority, wanted, as_json)


_AFTER_STEP = {
    1: "Everybody trusts both CAs once he has the new ca.crt",
    2: "Everybody shows certificates of the new CA once he has the new files",
    3: "The old CA is trusted no more once everybody has the new ca.crt, and the rotation is over",
}


@app.verb("rotate-ca")
def rotate_ca(
    directory: Directory = _DIRECTORY,
    step: Annotated[
        int | None, typed.Option("--step", min=1, max=3, help="1: trust both, 2: sign anew, 3: forget the old one.")
    ] = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Replace the CA of a cluster that runs, in three steps.

    After each one, bring the files to all nodes and clients. Nodes write certificate_taken into their logs within two
    seconds; nobody is started again. Without --step: which step is next.

    \b
    Examples:
      ottla secure rotate-ca --step 1
      ottla secure rotate-ca prod --step 2 --days 90
    """
    from ottla.cli.output import print_json
    from ottla.secure.rotation import FORGET, steps_done, take_step

    with _explained():
        if step is not None:
            take_step(directory, step, days)
        done = FORGET if step == FORGET else steps_done(directory)
    follows = None if step == FORGET else done + 1
    if as_json:
        print_json({"steps_done": done, "next_step": follows})
        return
    if done:
        print(f"Step {done} of 3 is done. {_AFTER_STEP[done]}: bring each his directory.")
    if follows is not None:
        print(f"{'Then' if done else 'Next'}: ottla secure rotate-ca {directory} --step {follows}")


@app.verb()
def status(directory: Directory = _DIRECTORY, as_json: Json = False) -> None:
    """Show when certificates expire and what is wrong.

    Exit code 1 if anything is wrong. DIR may also be that of one node or client.

    \b
    Examples:
      ottla secure status
      ottla secure status /etc/ottla/node-1
    """
    from ottla.cli.output import Cell, Style, print_json, print_table
    from ottla.secure.judge import needed, utc_now

    with _explained():
        needed()
        found = _examined(directory)
    wrong = sum(bool(holder.wrong) for _, holder in found)
    if as_json:
        print_json([_as_json(name, holder) for name, holder in found])
    else:
        rows = []
        for name, holder in found:
            said = holder.certificate
            days = "" if said is None else str((said.not_after - utc_now()).days)
            style: Style = "bad" if holder.wrong else "warn" if holder.warnings else "good"
            rows.append(
                (
                    name,
                    "" if said is None else said.common_name,
                    "" if said is None else f"{said.not_after:%Y-%m-%d}",
                    days,
                    ",".join(said.names) if said is not None else "",
                    Cell("wrong" if holder.wrong else "look" if holder.warnings else "ok", style),
                )
            )
        print_table(("DIRECTORY", "NAME", "EXPIRES", "DAYS", "DIALLED BY", ""), rows)
        for _, holder in found:
            for text in (*holder.wrong, *holder.warnings):
                print(f"  {text}")
    if wrong:
        raise click.exceptions.Exit(1)


def _examined(directory: Path) -> "list[tuple[str, Holder]]":
    """The CA, where it is there, and each holder."""
    from ottla.secure.issue import holders
    from ottla.secure.judge import examine, examine_ca, utc_now
    from ottla.secure.names import CA_DIRECTORY, CA_FILE, CA_KEY_FILE, CertificateError
    from ottla.secure.rotation import steps_done

    if not directory.is_dir():
        raise CertificateError(f"there is no directory {directory}", "make one with `ottla secure init`")
    found = [(path.name, examine(_files(path), utc_now())) for path in holders(directory)]
    if not found:
        raise CertificateError(
            f"there are no certificates in {directory}", "`ottla secure init` makes some; or name another directory"
        )
    nodes = [it.certificate.node for _, it in found if it.certificate is not None]
    if len({node.cluster_id for node in nodes if node is not None}) > 1:
        found = [
            (name, replace(it, problems=(*it.problems, "the nodes' certificates are of several clusters")))
            for name, it in found
        ]
    ca = directory / CA_DIRECTORY
    if ca.is_dir():
        examined = examine_ca(ca / CA_FILE, ca / CA_KEY_FILE, utc_now())
        if not examined.problems and (done := steps_done(directory)):
            said = f"the CA is being replaced, step {done} of 3 is done: `ottla secure rotate-ca {directory}`"
            examined = replace(examined, warnings=(*examined.warnings, said))
        found.insert(0, (CA_DIRECTORY, examined))
    return found


def _files(path: Path) -> Any:
    from ottla.secure.names import Files

    return Files.within(path)


def _names(san: list[str] | None, nodes: int) -> Any:
    """What node N is dialled by, as a function of N."""
    from ottla.secure.names import CertificateError

    for_all: list[str] = []
    of_one: dict[int, list[str]] = {}
    for text in san or ():
        number, equals, name = text.partition("=")
        if not equals:
            for_all.append(text)
        elif number.isdecimal() and 1 <= int(number) <= nodes:
            of_one.setdefault(int(number), []).append(name)
        else:
            raise CertificateError(f"--san {text}: there is no node {number!r} here", "write N=NAME, or NAME alone")
    return lambda node_id: [*of_one.get(node_id, ()), *for_all]


def _check_free(directory: Path, wanted: "Sequence[Asked]") -> None:
    """Before the first is made: all, or none where one of them is there already."""
    from ottla.secure.names import CertificateError

    taken = [each.common_name for each in wanted if _files(directory / each.common_name).any_exists()]
    if taken:
        raise CertificateError(
            f"there is a certificate or key in {', '.join(str(directory / name) for name in taken)}",
            f"`ottla secure renew {directory} --only {taken[0]}` replaces it; remove what is not needed",
        )


def _show(authority: "Authority", wanted: "Sequence[Asked]", as_json: bool) -> None:
    from ottla.cli.output import print_json, print_table
    from ottla.secure.judge import examine, utc_now

    made = [(str(authority.home(each)), examine(_files(authority.home(each)), utc_now())) for each in wanted]
    if as_json:
        print_json(
            {
                "cluster_id": authority.cluster_id,
                "ca": str(authority.directory / "ca" / "ca.crt"),
                "ca_expires": authority.expires.isoformat(),
                "certificates": [_as_json(name, holder) for name, holder in made],
            }
        )
        return
    print(f"Cluster {authority.cluster_id}, its CA is good until {authority.expires:%Y-%m-%d}.")
    rows = []
    for name, holder in made:
        said = holder.certificate
        if said is not None:
            rows.append((name, said.common_name, f"{said.not_after:%Y-%m-%d}", ",".join(said.names)))
    print_table(("DIRECTORY", "NAME", "EXPIRES", "DIALLED BY"), rows)


def _as_json(name: str, holder: "Holder") -> dict[str, object]:
    said = holder.certificate
    about: dict[str, object] = {
        "directory": name,
        "ca": str(holder.files.ca),
        "cert": str(holder.files.cert),
        "key": str(holder.files.key),
        "problems": list(holder.wrong),
        "warnings": list(holder.warnings),
    }
    if said is not None:
        about |= {
            "name": said.common_name,
            "node_id": None if said.node is None else said.node.node_id,
            "cluster_id": None if said.node is None else said.node.cluster_id,
            "names": list(said.names),
            "not_before": said.not_before.isoformat(),
            "expires": said.not_after.isoformat(),
            "fingerprint": said.fingerprint,
        }
    return about


@contextmanager
def _explained() -> Iterator[None]:
    """What is wrong with certificates, as a command tells it."""
    from ottla.secure.names import CertificateError, MissingPackage

    try:
        yield
    except CertificateError as error:
        code = "MISSING_PACKAGE" if isinstance(error, MissingPackage) else "INVALID_CERTIFICATE"
        raise Failure(code, error.message, error.next_step) from None
