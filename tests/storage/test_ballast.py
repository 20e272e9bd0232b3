"""The ballast: takes room up, gives it back, and is what a directory opens with on a full disk."""

import errno
from pathlib import Path

import pytest

from storage.ballast import Ballast, ballast_bytes
from storage.directory import LogDirectory
from storage.fs import FileSystem, OsFileSystem
from tests.storage.forgetful import ForgetfulFileSystem

MIB = 2**20


@pytest.mark.parametrize(
    ("total", "size"),
    [(32 * MIB, 0), (64 * MIB, 16 * MIB), (1 << 30, 16 * MIB), (4 << 30, (4 << 30) // 100), (1 << 40, 64 * MIB)],
)
def test_its_size(total: int, size: int) -> None:
    assert ballast_bytes(total) == size


@pytest.fixture(params=["os", "forgetful"])
def fs(request: pytest.FixtureRequest) -> FileSystem:
    return OsFileSystem() if request.param == "os" else ForgetfulFileSystem()


def test_it_is_held_over_restarts_and_released_once(fs: FileSystem, tmp_path: Path) -> None:
    path = str(tmp_path)
    fs.makedirs(path)
    ballast = Ballast(fs, path, MIB)
    assert (ballast.held, ballast.missing_bytes) == (False, MIB)
    assert ballast.hold()
    assert (fs.size(f"{path}/ballast"), ballast.missing_bytes) == (MIB, 0)
    if isinstance(fs, OsFileSystem):
        assert Path(path, "ballast").stat().st_blocks * 512 >= MIB
    again = Ballast(fs, path, MIB)
    assert again.held
    assert Ballast(fs, path, 2 * MIB).held is False
    assert again.release()
    assert not again.release()
    assert "ballast" not in fs.listdir(path)
    assert Ballast(fs, path, 0).hold() is False


def test_where_there_is_no_room_nothing_stays_behind() -> None:
    fs = ForgetfulFileSystem()
    fs.makedirs("/data")
    fs.capacity_bytes = MIB // 2
    ballast = Ballast(fs, "/data", MIB)
    assert not ballast.hold()
    assert fs.listdir("/data") == []
    fs.capacity_bytes = 2 * MIB
    assert ballast.hold()


def open_directory(fs: ForgetfulFileSystem) -> LogDirectory:
    return LogDirectory.open(fs, "/data", node_id=1, new_directory_id=bytes(16), boot_id="b")


def test_a_directory_opens_on_a_full_disk_for_its_ballast() -> None:
    fs = ForgetfulFileSystem()
    open_directory(fs).close(clean=True)
    assert Ballast(fs, "/data", MIB).hold()
    fs.capacity_bytes = sum(fs.size(f"/data/{name}") for name in fs.listdir("/data"))
    directory = open_directory(fs)
    assert "ballast" not in fs.listdir("/data")
    assert "open" in fs.listdir("/data")
    directory.close(clean=False)
    fs = fs.kill()
    fs.capacity_bytes = 10
    with pytest.raises(OSError, match="space") as caught:
        open_directory(fs)
    assert caught.value.errno == errno.ENOSPC
