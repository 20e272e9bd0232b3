"""What both file systems promise: the real one and the forgetful one; and what only the latter can show."""

import errno
import os
from pathlib import Path

import pytest

from storage.config import LogConfig
from storage.directory import LogDirectory
from storage.durable import remove_directory
from storage.fs import FileSystem, OsFileSystem, read_file, remove_if_there
from storage.log import Log
from tests.storage.forgetful import ForgetfulFileSystem


@pytest.fixture(params=["os", "forgetful"])
def fs(request: pytest.FixtureRequest) -> FileSystem:
    return OsFileSystem() if request.param == "os" else ForgetfulFileSystem()


@pytest.fixture
def root(fs: FileSystem, tmp_path: Path) -> str:
    path = str(tmp_path / "a" / "b")
    fs.makedirs(path)
    fs.makedirs(path)
    return path


def test_writes_land_where_they_are_told_and_reads_stop_at_the_end(fs: FileSystem, root: str) -> None:
    file = fs.open(f"{root}/x", create=True)
    file.write_at(0, [b"hello ", memoryview(b"world"), bytearray(b"!")])
    file.write_at(6, [b"W"])
    assert file.pread(100, 0) == b"hello World!"
    assert file.pread(5, 6) == b"World"
    assert file.pread(5, 12) == b""
    assert file.size() == fs.size(f"{root}/x") == 12
    file.truncate(5)
    assert file.pread(100, 0) == b"hello"
    file.write_at(7, [b"?"])
    assert file.pread(100, 0) == b"hello\0\0?"
    file.sync()
    file.close()
    assert read_file(fs, f"{root}/x") == b"hello\0\0?"


def test_a_duplicate_outlives_the_original_and_the_name(fs: FileSystem, root: str) -> None:
    file = fs.open(f"{root}/x", create=True)
    file.write_at(0, [b"abc"])
    other = file.dup()
    file.close()
    file.close()
    fs.unlink(f"{root}/x")
    other.sync()
    assert other.pread(10, 0) == b"abc"
    other.close()
    with pytest.raises(OSError, match=r".") as caught:
        other.pread(1, 0)
    assert caught.value.errno == errno.EBADF


def test_names(fs: FileSystem, root: str) -> None:
    with pytest.raises(FileNotFoundError):
        fs.open(f"{root}/x")
    fs.open(f"{root}/x", create=True).close()
    with pytest.raises(FileExistsError):
        fs.open(f"{root}/x", create=True)
    file = fs.open(f"{root}/y", create=True)
    file.write_at(0, [b"new"])
    file.close()
    fs.rename(f"{root}/y", f"{root}/x")
    assert fs.listdir(root) == ["x"]
    assert read_file(fs, f"{root}/x") == b"new"
    fs.sync_dir(root)
    assert remove_if_there(fs, f"{root}/x")
    assert not remove_if_there(fs, f"{root}/x")
    with pytest.raises(FileNotFoundError):
        fs.unlink(f"{root}/x")
    with pytest.raises(FileNotFoundError):
        fs.size(f"{root}/x")
    with pytest.raises(FileNotFoundError):
        fs.listdir(f"{root}/nothing")


def test_directories_can_be_renamed_and_removed_when_empty(fs: FileSystem, root: str) -> None:
    fs.makedirs(f"{root}/d")
    fs.open(f"{root}/d/x", create=True).close()
    with pytest.raises(OSError, match=r".") as caught:
        fs.rmdir(f"{root}/d")
    assert caught.value.errno == errno.ENOTEMPTY
    fs.rename(f"{root}/d", f"{root}/e")
    fs.unlink(f"{root}/e/x")
    fs.rmdir(f"{root}/e")
    assert fs.listdir(root) == []


def test_a_lock_is_held_by_one_until_closed(fs: FileSystem, root: str) -> None:
    lock = fs.lock(f"{root}/.lock")
    assert lock is not None
    assert fs.lock(f"{root}/.lock") is None
    lock.close()
    again = fs.lock(f"{root}/.lock")
    assert again is not None
    again.close()


def test_power_loss_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    seen: set[bytes | None] = set()
    for seed in range(300):
        fs = ForgetfulFileSystem(seed)
        fs.makedirs("/d")
        file = fs.open("/d/x", create=True)
        file.write_at(0, [b"a" * 600])
        file.sync()
        fs.sync_dir("/d")
        file.write_at(600, [b"b" * 600])
        fs.open("/d/y", create=True).close()
        after = fs.power_loss()
        content = read_file(after, "/d/x")
        assert content[:600] == b"a" * 600
        seen.add(content[600:])
        seen.add(None if "y" in after.listdir("/d") else b"no y")
    assert {b"", b"b" * 600, None, b"no y"} <= seen
    assert any(tail and tail.strip(b"b") == b"" and len(tail) < 600 for tail in seen), "a prefix"
    assert any(tail and tail.startswith(b"\0") and tail.endswith(b"b") for tail in seen), "a late sector alone"


def test_after_a_failed_sync_the_next_one_succeeds_and_saves_nothing() -> None:
    fs = ForgetfulFileSystem()
    file = fs.open("/x", create=True)
    fs.sync_dir("/")
    file.write_at(0, [b"abc"])
    fs.fail("sync", errno.EIO)
    with pytest.raises(OSError, match="injected"):
        file.sync()
    assert file.pread(3, 0) == b"abc"
    assert all(read_file(fs.power_loss(), "/x") == b"" for _ in range(20))
    file.sync()
    assert all(read_file(fs.power_loss(), "/x") == b"" for _ in range(20))
    file.write_at(1, [b"b"])
    file.sync()
    assert all(read_file(fs.power_loss(), "/x") == b"\0b" for _ in range(20))


def test_a_full_disk_takes_what_fits_and_a_kill_loses_nothing() -> None:
    fs = ForgetfulFileSystem()
    fs.capacity_bytes = 5
    file = fs.open("/x", create=True)
    with pytest.raises(OSError, match="space") as caught:
        file.write_at(0, [b"abcdefgh"])
    assert caught.value.errno == errno.ENOSPC
    assert read_file(fs.kill(), "/x") == b"abcde"


def test_only_a_directory_is_one(fs: FileSystem, root: str) -> None:
    fs.open(f"{root}/x", create=True).close()
    assert fs.is_directory(root)
    assert not fs.is_directory(f"{root}/x")
    assert not fs.is_directory(f"{root}/nothing")


class TestLinks:
    """What a link leads to is not ours."""

    @pytest.fixture
    def foreign(self, tmp_path: Path) -> Path:
        path = tmp_path / "foreign"
        path.mkdir()
        for name in ("precious", "x.tmp", "y.deleted"):
            (path / name).write_text("mine")
        return path

    def whole(self, foreign: Path) -> bool:
        return sorted(path.name for path in foreign.iterdir()) == ["precious", "x.tmp", "y.deleted"]

    def directory(self, path: Path) -> LogDirectory:
        return LogDirectory.open(OsFileSystem(), str(path), node_id=1, new_directory_id=bytes(16), boot_id=None)

    def test_a_deleted_log_that_is_a_link_takes_nothing_with_it(self, foreign: Path, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        ours, other = f"{'0' * 32}-0.deleted", "backup.deleted"
        (data / ours).symlink_to(foreign)
        (data / other).symlink_to(foreign)
        (data / "notes.deleted").write_text("mine")
        self.directory(data).close(clean=True)
        assert self.whole(foreign)
        assert not (data / ours).is_symlink()
        assert (data / other).is_symlink()
        assert (data / "notes.deleted").read_text() == "mine"

    def test_a_log_is_never_opened_or_removed_through_a_link(self, foreign: Path, tmp_path: Path) -> None:
        link = tmp_path / f"{'0' * 32}-0"
        link.symlink_to(foreign)
        with pytest.raises(OSError, match="link"):
            Log.open(OsFileSystem(), str(link), bytes(16), 0, LogConfig(), now_ms=0)
        remove_directory(OsFileSystem(), str(link))
        assert self.whole(foreign)
        assert not link.is_symlink()

    def test_a_file_is_never_opened_through_a_link(self, foreign: Path, tmp_path: Path) -> None:
        (tmp_path / "meta").symlink_to(foreign / "precious")
        with pytest.raises(OSError, match="symbolic"):
            OsFileSystem().open(str(tmp_path / "meta"))
        with pytest.raises(OSError, match="symbolic"):
            OsFileSystem().lock(str(tmp_path / "meta"))

    def test_new_data_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            self.directory(tmp_path / "data").close(clean=True)
            Log.open(OsFileSystem(), str(tmp_path / "data" / "log"), bytes(16), 0, LogConfig(), now_ms=0).close()
        finally:
            os.umask(before)
        made = list((tmp_path / "data").rglob("*"))
        assert len(made) > 3
        assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data", *made) if path.is_dir()} == {0o700}
