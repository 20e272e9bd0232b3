"""Faults on demand: what they do to files and calls, that they end, and that without the flag there are none."""

import errno
import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from node.hooks import Hooks
from tests.cluster.harness import LocalCluster


def test_a_full_disk_refuses_writes_and_new_files_until_it_has_space(tmp_path: Path) -> None:
    hooks = Hooks()
    file = hooks.fs.open(str(tmp_path / "a"), create=True)
    file.write_at(0, [b"before"])
    assert hooks.set("write=ENOSPC").status == 200
    for broken in (
        lambda: file.write_at(6, [b"x"]),
        lambda: file.dup().write_at(6, [b"x"]),
        lambda: hooks.fs.open(str(tmp_path / "b"), create=True),
        lambda: hooks.fs.makedirs(str(tmp_path / "c")),
    ):
        with pytest.raises(OSError, match="test hook") as caught:
            broken()
        assert caught.value.errno == errno.ENOSPC
    assert file.pread(100, 0) == b"before"
    hooks.set("write=")
    file.write_at(6, [b" after"])
    assert file.pread(100, 0) == b"before after"


def test_syncs_fail_or_take_their_time(tmp_path: Path) -> None:
    hooks = Hooks()
    file = hooks.fs.open(str(tmp_path / "a"), create=True)
    hooks.set("sync=EIO")
    with pytest.raises(OSError, match="EIO"):
        file.sync()
    hooks.set("sync=&sync_ms=50")
    started = time.monotonic()
    file.sync()
    assert time.monotonic() - started >= 0.05


def test_one_directory_s_files_fail(tmp_path: Path) -> None:
    hooks = Hooks()
    hooks.fs.makedirs(str(tmp_path / "bad"))
    good, bad = (hooks.fs.open(str(tmp_path / name), create=True) for name in ("good", "bad/file"))
    hooks.set("sync=EIO&write=EIO&path=.*/bad/.*")
    good.write_at(0, [b"x"])
    good.sync()
    for broken in (lambda: bad.write_at(0, [b"x"]), bad.sync, bad.dup().sync):
        with pytest.raises(OSError, match="EIO"):
            broken()
    hooks.set("path=.*/other/.*")
    bad.sync()


@pytest.mark.parametrize("query", ["write=OUCH", "sync_ms=-1", "sync_ms=x", "share=2", "drop=(", "meteor=1"])
def test_nonsense_changes_nothing(query: str) -> None:
    hooks = Hooks()
    hooks.set("sync_ms=5")
    assert hooks.set(f"clock_ms=7&{query}").status == 400
    found = json.loads(hooks.show().body)
    assert (found["sync_ms"], found["clock_ms"]) == (5, 0)


async def test_calls_are_refused_by_their_method_s_name() -> None:
    hooks = Hooks()

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    server = grpc.aio.server(interceptors=[hooks.interceptor])
    methods = {name: grpc.unary_unary_rpc_method_handler(echo) for name in ("One", "Other")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        one, other = (channel.unary_unary(f"/test.Service/{name}") for name in ("One", "Other"))
        hooks.set("fail=One")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one(b"x", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await other(b"x", timeout=5) == b"x"
        hooks.set("fail=&drop=O.*")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await other(b"x", timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        hooks.set("drop=")
        assert await other(b"x", timeout=5) == b"x"
    await server.stop(None)


@pytest.mark.cluster
def test_a_node_without_the_flag_has_no_hooks(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 1) as cluster:
        cluster.start().wait_ready()
        assert cluster[1].http("/hooks")[0] == 404
