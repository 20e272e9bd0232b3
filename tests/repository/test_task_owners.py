"""Who starts a task looks after its end: tasks begin only in the files named here, each with who sees how they end.

A task that nobody awaits ends in silence, and what it did is not done any more.
"""

import ast
from pathlib import Path

OWNERS = {
    "node/api/coordination.py": "the calls that wait for the topic",
    "node/broker/broker.py": "`_ended`: an end stops the node",
    "node/broker/fetcher.py": "the stream whose requests it writes",
    "node/broker/replication.py": "the stream whose requests it reads",
    "node/control.py": "`core` and `_ended`: an end stops the node",
    "node/controller/shell.py": "whoever reads waits for the barrier",
    "node/data.py": "`core` and `_took_over`: an end stops the node",
    "node/groups/shell.py": "`_task_done`: an end stops the node",
    "node/http.py": "the connection, which is closed where no handshake comes about",
    "node/kafka/handlers/cluster_facts.py": "its connection, which a bug ends",
    "node/kafka/service.py": "the connection, which is closed where no handshake comes about",
    "node/main.py": "`_until_over` and `_main`: an end stops the node",
    "node/quorum/links.py": "`stop`; a dialler catches everything, a writer ends with its stream",
    "node/relay.py": "the two connections that it joins, which end together",
    "node/services/accept.py": "gRPC's serving task, or what handles errors of the loop",
    "node/services/admin.py": "the call that waits for it",
    "node/services/auto_create.py": "`stop`; who wants the topic asks again",
    "node/services/cluster.py": "the calls that wait for the answer",
    "node/services/fetch.py": "the call that gathers them",
    "node/services/fetch_stream.py": "the stream",
    "node/services/groups.py": "the session; `_closing` where it outlives one",
    "node/services/offsets.py": "a task group of the call",
    "node/services/produce.py": "a task group of the call",
    "node/services/produce_stream.py": "the stream, or the forwarding that says why it ended",
    "node/turns.py": "a task group of the call",
    "ottla/cli/load.py": "the load, which fails with them",
}
STARTS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}


def test_tasks_begin_only_where_somebody_sees_their_end(repository: Path) -> None:
    found = {
        str(path.relative_to(repository))
        for folder in ("node", "ottla/cli", "raft", "storage")
        for path in sorted((repository / folder).rglob("*.py"))
        if starts_tasks(path.read_text())
    }
    assert found - OWNERS.keys() == set(), "name here who sees how these tasks end"
    assert OWNERS.keys() - found == set(), "no task begins there any more"


def test_the_rule_itself() -> None:
    assert starts_tasks("asyncio.create_task(f())")
    assert starts_tasks("group.create_task(f())")
    assert starts_tasks("from asyncio import ensure_future\nensure_future(f())")
    assert not starts_tasks("await f()")


def starts_tasks(code: str) -> bool:
    return any(
        isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)) in STARTS
        for node in ast.walk(ast.parse(code))
    )
