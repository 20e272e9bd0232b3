"""Small files that are replaced as a whole: log state, checkpoints, directory metadata.

One line of JSON header with format, length and CRC-32C, then the JSON body. A crash leaves the old or the new content,
never a mix; anything else is seen by the checksum.
"""

import contextlib
import json
import os
from typing import Any, Final

from ottla.protocol.checksum import crc32c
from storage.errors import CorruptFile
from storage.fs import FileSystem, read_file, remove_if_there

DELETED_SUFFIX: Final = ".deleted"
_MAGIC: Final = b"ottla 1 "


def write_durable(fs: FileSystem, path: str, content: dict[str, Any]) -> None:
    """Replaces `path` atomically and durably: temporary file, sync, rename, sync of the directory. Raises OSError."""
    body = json.dumps(content, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    temporary = path + ".tmp"
    remove_if_there(fs, temporary)
    file = fs.open(temporary, create=True)
    try:
        file.write_at(0, [_MAGIC, b"%08x\n" % crc32c(body), body])
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):
            fs.unlink(temporary)
        raise
    finally:
        file.close()
    fs.rename(temporary, path)
    fs.sync_dir(os.path.dirname(path))


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
    if doomed != directory:
        fs.rename(directory, doomed)
        fs.sync_dir(os.path.dirname(directory))
    if not fs.is_directory(doomed):
        fs.unlink(doomed)
        return
    for name in fs.listdir(doomed):
        fs.unlink(os.path.join(doomed, name))
    fs.rmdir(doomed)
