"""Profiles: names for clusters, in one small file of the user's own."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from ottla.cli.failure import Failure

VARIABLE: Final = "OTTLA_PROFILE"


def path() -> Path:
    """Where the file is, or would be."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "ottla" / "profiles.json"


class Profiles:
    """The file's content. Raises Failure where it is none of ours."""

    def __init__(self) -> None:
        self.in_use: str | None = None
        self.bootstraps: dict[str, str] = {}
        self.tls: dict[str, dict[str, str]] = {}
        """The files of those with TLS: `ca`, and perhaps `cert` and `key`."""
        self.users: dict[str, dict[str, str]] = {}
        """Of those who log in: `user` and `password_file`."""
        try:
            data = path().read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            content: dict[str, Any] = json.loads(data.decode())
            self.in_use = None if content["in_use"] is None else str(content["in_use"])
            self.bootstraps = {str(name): str(each["bootstrap"]) for name, each in content["profiles"].items()}
            self.tls = {
                str(name): {str(key): str(path) for key, path in each["tls"].items()}
                for name, each in content["profiles"].items()
                if each.get("tls")
            }
            self.users = {
                str(name): {key: str(each["login"][key]) for key in ("user", "password_file")}
                for name, each in content["profiles"].items()
                if each.get("login")
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Failure("INVALID_CONFIG", f"{path()} is no file of profiles", "mend it, or remove it") from None

    def save(self) -> None:
        """Writes the file in one step: a command that runs at the same time reads the old one or the new one."""
        content = {
            "in_use": self.in_use,
            "profiles": {
                name: {
                    "bootstrap": bootstrap,
                    **({"tls": self.tls[name]} if name in self.tls else {}),
                    **({"login": self.users[name]} if name in self.users else {}),
                }
                for name, bootstrap in sorted(self.bootstraps.items())
            },
        }
        path().parent.mkdir(parents=True, exist_ok=True)
        beside = path().with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        beside.replace(path())

    def bootstrap(self, name: str) -> str:
        """A profile's nodes. Raises Failure with the names there are."""
        if name not in self.bootstraps:
            from ottla.protocol.configs import did_you_mean

            close = did_you_mean(name, self.bootstraps)
            raise Failure("INVALID_REQUEST", f"there is no profile {name!r}{close}", "`ottla profile list` shows them")
        return self.bootstraps[name]

    def enter(self, name: str) -> str:
        """The profile's nodes; its certificates and its user are left in the environment, where every client of this
        process and of those that it starts looks. Raises Failure."""
        bootstrap = self.bootstrap(name)
        if name in self.tls:
            for key in ("ca", "cert", "key"):
                os.environ.pop(f"OTTLA_TLS_{key.upper()}", None)
            os.environ.pop("OTTLA_TLS_DIR", None)
            os.environ.update({f"OTTLA_TLS_{key.upper()}": path for key, path in self.tls[name].items()})
        if name in self.users:
            os.environ.update({f"OTTLA_{key.upper()}": value for key, value in self.users[name].items()})
        return bootstrap


def files_in(directory: Path, *, with_user: bool = False) -> dict[str, str]:
    """A client's files by their absolute paths: profiles are used anywhere. Who logs in needs no certificate."""
    from ottla.secure.names import Files

    files = Files.within(directory.resolve())
    if with_user and files.ca.is_file() and not files.cert.exists() and not files.key.exists():
        return {"ca": str(files.ca)}
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise Failure(
            "INVALID_REQUEST",
            f"there is no {missing[0]}",
            "name the directory of a client that `ottla secure init` or `ottla secure add --client` made",
        )
    return {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}


def bootstrap_in_use() -> str | None:
    """The nodes of the profile that OTTLA_PROFILE names, or else of the one in use, which is entered."""
    name = os.environ.get(VARIABLE)
    if not name and not path().exists():
        return None
    profiles = Profiles()
    name = name or profiles.in_use
    return profiles.enter(name) if name else None


def who_wins() -> str | None:
    """A setting in the environment that hides the profile in use, if there is one."""
    return next((name for name in ("OTTLA_BOOTSTRAP", VARIABLE) if os.environ.get(name)), None)


def warn_if_hidden() -> None:
    """`ottla profile use` changes nothing where the environment decides."""
    if (winner := who_wins()) is not None:
        print(f"{winner} is set in the environment and comes first.", file=sys.stderr)
