"""Small files that are replaced as a whole: log state, checkpoints, directory metadata.

One line of JSON header with format, length and CRC-32C, then the JSON body. A crash leaves the old or the new content,
never a mix; anything else is seen by the checksum.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any, Final

from ottla.protocol.checksum import crc32c
from storage.errors import CorruptFile
from storage.fs import Buffer, FileSystem, read_file, remove_if_there

DELETED_SUFFIX: Final = ".deleted"
_MAGIC: Final = b"ottla 1 "


def write_durable(fs: FileSystem, path: str, content: dict[str, Any]) -> None:
    """Replaces `path` atomically and durably: temporary file, sync, rename, sync of the directory. Raises OSError."""
    body = json.dumps(content, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    replace_file(fs, path, [_MAGIC, b"%08x\n" % crc32c(body), body])


def replace_file(fs: FileSystem, path: str, parts: Sequence[Buffer]) -> None:
    """Gives `path` this content, atomically and durably. Whoever is refused for want of room or descriptors finds the
    old content, for all that is needed is in hand before the rename. Raises OSError."""
    temporary = path + ".tmp"
    with contextlib.closing(fs.open_dir(os.path.dirname(path))) as directory:
        remove_if_there(fs, temporary)
        file = fs.open(temporary, create=True)
        try:
            file.write_at(0, parts)
            file.sync()
        except OSError:
            with contextlib.suppress(OSError):
                fs.unlink(temporary)
            raise
        finally:
            file.close()
        fs.rename(temporary, path)
        directory.sync()


def read_durable(fs: FileSystem, path: str) -> dict[str, Any] | None:
    """The content, or None if there is no such file. Raises CorruptFile, OSError."""
    try:
        raw = read_file(fs, path)
    except FileNotFoundError:
        return None
    head, _, body = raw.partition(b"\n")
    if head != _MAGIC + b"%08x" % crc32c(body):
        raise CorruptFile(f"{path} does not carry the checksum of its content")
    content = json.loads(body)
    if not isinstance(content, dict):
        raise CorruptFile(f"{path} does not hold an object")
    return content


def remove_directory(fs: FileSystem, directory: str) -> None:
    """Removes a directory of files: renamed to `*.deleted` first, durably, so that no crash leaves half of it under
    its name. Of a link only itself goes, never what it leads to. Raises OSError."""
    doomed = directory if directory.endswith(DELETED_SUFFIX) else directory + DELETED_SUFFIX
    names = fs.listdir(directory) if fs.is_directory(directory) else None
    if doomed != directory:
        with contextlib.closing(fs.open_dir(os.path.dirname(directory))) as above:
            fs.rename(directory, doomed)
            above.sync()
    if names is None:
        fs.unlink(doomed)
        return
    for name in names:
        fs.unlink(os.path.join(doomed, name))
    fs.rmdir(doomed)
