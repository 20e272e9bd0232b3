"""What both file systems promise: the real one and the forgetful one; and what only the latter can show."""

import errno
from pathlib import Path

import pytest

from storage.fs import FileSystem, OsFileSystem, read_file, remove_if_there
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
