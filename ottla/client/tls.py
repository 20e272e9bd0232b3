"""The certificates of a client: which files, and channels that are made anew when those have been replaced."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import grpc
from grpc import aio

from ottla.client import arguments
from ottla.client.errors import ConfigError
from ottla.secure.diagnosis import Shown
from ottla.secure.names import Files

VARIABLES: Final = ("OTTLA_TLS_CA", "OTTLA_TLS_CERT", "OTTLA_TLS_KEY")
DIRECTORY_VARIABLE: Final = "OTTLA_TLS_DIR"
PathText = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: `ca` holds whom to trust, `cert` and `key` are the client's own. For files that are together in one
    directory as `ottla secure` makes them, name that directory instead."""

    ca: PathText
    cert: PathText | None = None
    key: PathText | None = None


def tls_of(given: "Tls | PathText | None") -> "ClientTls | None":
    """What an argument or else the environment asks for; None: no TLS. Raises ConfigError."""
    if isinstance(given, Tls):
        for each in (given.ca, given.cert, given.key):
            if each is not None and not isinstance(each, str | os.PathLike):
                raise ConfigError(f"tls {arguments.shown(each)} is no path")
        return ClientTls(_shown(given.ca, given.cert, given.key))
    if given is not None:
        if not isinstance(given, str | os.PathLike):
            raise ConfigError(f"tls {arguments.shown(given)} is no directory and no ottla.Tls")
        return ClientTls(_within(Path(given), (None, None, None)))
    single = [os.environ.get(name) or None for name in VARIABLES]
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        return ClientTls(_within(Path(directory), single))
    if not any(single):
        return None
    if single[0] is None:
        raise ConfigError(f"{VARIABLES[0]} is not set. Next: name the file with whom to trust")
    return ClientTls(_shown(single[0], single[1], single[2]))


def _within(directory: Path, single: Sequence[str | None]) -> Shown:
    """A directory's files; `single` are named by themselves and come first."""
    if not directory.is_dir():
        raise ConfigError(
            f"tls {arguments.shown(str(directory))} is no directory. Next: name the one with ca.crt, tls.crt, tls.key"
        )
    beside = Files.within(directory)
    cert = single[1] or (beside.cert if beside.cert.exists() else None)
    key = single[2] or (beside.key if beside.key.exists() else None)
    return _shown(single[0] or beside.ca, cert, key)


def _shown(ca: PathText, cert: PathText | None, key: PathText | None) -> Shown:
    if (cert is None) != (key is None):
        raise ConfigError("tls needs both a certificate and its key, or neither. Next: name the other one, too")
    return Shown(Path(ca), None if cert is None else Path(cert), None if key is None else Path(key))


class ClientTls:
    """Makes channels. Files that are there at first may be replaced at any time; a connection that stands stays."""

    def __init__(self, shown: Shown) -> None:
        """Raises ConfigError for files that cannot be read."""
        self.shown = shown
        self._fresh: WeakSet[Any] = WeakSet()
        self._load()

    def _load(self) -> None:
        self._stamps = self._look()
        ca, cert, key = (None if path is None else _read(path) for path in self.shown)
        self._credentials = grpc.ssl_channel_credentials(ca, key, cert)
        self._fresh = WeakSet()

    def _look(self) -> list[tuple[int, int] | None]:
        stamps: list[tuple[int, int] | None] = []
        for path in self.shown:
            try:
                status = None if path is None else path.stat()
            except (OSError, ValueError):
                status = None
            stamps.append(None if status is None else (status.st_mtime_ns, status.st_ino))
        return stamps

    def channel(self, address: str, options: Sequence[tuple[str, Any]]) -> aio.Channel:
        return aio.secure_channel(address, self._credentials, options=options)

    def keep(self, channel: object) -> None:
        """Remembers with which files a channel was made."""
        self._fresh.add(channel)

    def is_stale(self, channel: Any) -> bool:
        """Whether a channel has no connection, and would make one with files that have been replaced."""
        if channel.get_state() is grpc.ChannelConnectivity.READY:
            return False
        if self._look() != self._stamps:
            try:
                self._load()
            except ConfigError:
                return False  # half replaced: looked at again
        return channel not in self._fresh


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise ConfigError(
            f"tls: {arguments.shown(str(path))} cannot be read: {(why or str(error)).lower()}. "
            "Next: check the path and its rights"
        ) from None
