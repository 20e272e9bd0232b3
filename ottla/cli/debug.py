"""`ottla debug`: what somebody needs who is to find out what is wrong with a cluster."""

import json
import time
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin, Client
    from ottla.v1 import cluster_pb2

app = typed.Group("Gather what explains a fault.")

_TEXT_MAX_BYTES: Final = 2 * 2**20
_ALL_MAX_BYTES: Final = 64 * 2**20
_ITEMS_MAX: Final = 200
"""Topics, and groups, that are described one by one."""
_NODE_S: Final = 20.0


class _Bundle:
    """A zip file in the making: texts with a bound each and one for all, and what was left out."""

    def __init__(self, file: Path) -> None:
        self.left_out: list[str] = []
        self.count = self._bytes = 0
        self._zip = zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED)

    def add(self, name: str, data: bytes) -> None:
        room = min(_TEXT_MAX_BYTES, _ALL_MAX_BYTES - self._bytes)
        if len(data) > room:
            self.left_out.append(f"{name}: {len(data) - room} of {len(data)} bytes, for there is a bound")
            data = data[:room]
        if data:
            self._zip.writestr(name, data)
            self.count += 1
            self._bytes += len(data)

    def add_json(self, name: str, value: object) -> None:
        self.add(name, json.dumps(_plain(value), indent=2, default=str).encode())

    async def ask(self, name: str, question: Callable[[], Awaitable[Any]]) -> Any:
        """Adds the answer, or says why there is none: what is wrong with a cluster must not keep its bundle away."""
        from ottla import OttlaError

        try:
            answer = await question()
        except (OttlaError, TimeoutError, OSError) as error:
            self.left_out.append(f"{name}: {_said(error)}")
            return None
        self.add_json(name, answer)
        return answer

    def close(self) -> None:
        self._zip.close()


@app.verb()
def bundle(
    file: Annotated[
        Path | None, typed.Option("--output", "-o", help="Where it goes; else ottla-debug-TIME.zip.", metavar="FILE")
    ] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Write one zip file with what explains a fault.

    Versions, settings without secrets, the cluster's topics, groups and quorum; of each node its metrics, stacks, the
    names of its files and the end of its log. No record and no password is in it. What a node that is down would tell
    is left out, and it says so.

    \b
    Examples:
      ottla debug bundle
      ottla debug bundle -o friday.zip
    """
    from ottla.cli.connect import connection, run
    from ottla.cli.output import counted, print_json, tell
    from ottla.cli.units import shown_bytes

    path = file or Path(time.strftime("ottla-debug-%Y%m%d-%H%M%S.zip"))
    if path.exists():
        raise Failure("FILE_EXISTS", f"{path} exists", "name another file, or remove that one first")

    async def work() -> _Bundle:
        from ottla import Admin

        async with connection(bootstrap) as client, Admin(client, request_timeout_ms=5_000) as admin:
            made = _Bundle(path)
            try:
                await _fill(made, client, admin)
            finally:
                made.close()
            return made

    made = run(work())
    size = path.stat().st_size
    if as_json:
        print_json({"file": str(path), "bytes": size, "texts": made.count, "left_out": made.left_out})
        return
    print(f"Wrote {path}: {counted(made.count, 'text')}, {shown_bytes(size)}.")
    for missing in made.left_out:
        tell(f"left out: {missing}")


async def _fill(made: _Bundle, client: "Client", admin: "Admin") -> None:
    import asyncio

    from ottla.cli.version import installed

    view = await made.ask("cluster/metadata.json", admin.describe_cluster)
    await made.ask("cluster/quorum.json", admin.describe_quorum)
    await made.ask("cluster/features.json", admin.describe_features)
    await made.ask("cluster/moves.json", admin.list_reassignments)
    nodes, topics = ([], []) if view is None else (sorted(view.brokers), sorted(view.topics))
    for name in topics[:_ITEMS_MAX]:
        await made.ask(f"topics/{name}.json", lambda name=name: admin.describe_topic_configs(name))  # type: ignore[misc]
    groups = await made.ask("groups/groups.json", admin.list_groups) or []
    for group in groups[:_ITEMS_MAX]:
        shown = "".join(c if c.isalnum() or c in "-_." else "_" for c in group.group_id)[:100]
        await made.ask(f"groups/{shown}.json", lambda each=group: admin.describe_group(each.group_id))  # type: ignore[misc]
    for kind, found in (("topics", topics), ("groups", groups)):
        if len(found) > _ITEMS_MAX:
            made.left_out.append(f"{kind}: all but the first {_ITEMS_MAX} of {len(found)}")
    # At once: each that is down, or hangs, takes its time.
    await asyncio.gather(*(_add_node(made, client, admin, node_id) for node_id in nodes))
    made.add_json(
        "bundle.json", {"written_ms": time.time_ns() // 1_000_000, "version": installed(), "left_out": made.left_out}
    )


async def _add_node(made: _Bundle, client: "Client", admin: "Admin", node_id: int) -> None:
    from ottla import OttlaError
    from ottla.client.errors import from_server

    await made.ask(f"nodes/{node_id}/configs.json", lambda: admin.describe_broker_configs(node_id))
    try:
        answer = await client.on_any_node(lambda channel: _describe(channel, node_id), round(_NODE_S * 1000))
        if answer.error.code:
            raise from_server(answer.error)
    except (OttlaError, TimeoutError, OSError) as error:
        made.left_out.append(f"nodes/{node_id}: {_said(error)}")
        return
    for text in answer.files:
        name = f"nodes/{node_id}/{text.name.replace('/', '_')}"
        made.add(name, text.content)
        if text.left_out:
            made.left_out.append(f"{name}: {text.left_out}")


def _said(error: Exception) -> str:
    """Without the next step, which is for who asked for that alone."""
    return str(error).partition(". Next: ")[0] or type(error).__name__


async def _describe(channel: Any, node_id: int) -> "cluster_pb2.DescribeNodeResponse":
    from ottla.v1 import cluster_pb2
    from ottla.v1.cluster_pb2_grpc import ClusterServiceStub

    answer: cluster_pb2.DescribeNodeResponse = await ClusterServiceStub(channel).DescribeNode(
        cluster_pb2.DescribeNodeRequest(node_id=node_id), timeout=_NODE_S
    )
    return answer


def _plain(value: Any) -> object:
    """As JSON has it: fields by name, bytes in hex, keys and the rest as text."""
    from collections.abc import Mapping, Set
    from dataclasses import fields, is_dataclass

    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | Set):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
