"""Who a certificate is for, as it is written in it, and the files that its holder has.

A node's identity is one DNS name that no address server knows: `node-2.<cluster id>.ottla.internal`. Whoever dials node
2 expects it whatever the address, and who dialled is node 2 only with it. No client's certificate has such a name.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

DOMAIN: Final = "ottla.internal"
CA_FILE: Final = "ca.crt"
CERT_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
"""As in a Kubernetes secret of type kubernetes.io/tls, so that one can be mounted as it is."""
CA_DIRECTORY: Final = "ca"
CA_KEY_FILE: Final = "ca.key"

_NODE_NAME: Final = re.compile(r"node-([1-9]\d{0,9})\.([0-9a-f]{32})\." + re.escape(DOMAIN))
_NODE: Final = re.compile(r"node-\d+", re.IGNORECASE)
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)


class CertificateError(ValueError):
    """Certificates that cannot be made or used. `next_step`: what helps."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class MissingPackage(CertificateError):
    """What makes and reads certificates is not installed."""


class NodeName(NamedTuple):
    """The node a certificate is for."""

    node_id: int
    cluster_id: str
    """32 hexadecimal digits."""

    def __str__(self) -> str:
        return f"node-{self.node_id}.{self.cluster_id}.{DOMAIN}"


def node_name(dns_name: str) -> NodeName | None:
    """The node that a name in a certificate stands for; None for every other name."""
    match = _NODE_NAME.fullmatch(dns_name)
    return None if match is None or int(match[1]) >= 2**31 else NodeName(int(match[1]), match[2])


def check_client_name(name: str) -> str:
    """Raises CertificateError for what could be taken for a node's, or is no name of a directory."""
    if _CLIENT.fullmatch(name) is None or _NODE.match(name) or name == CA_DIRECTORY:
        raise CertificateError(
            f"{name!r} is no name for a client's certificate",
            f"take up to 64 letters, digits and . _ @ -; not {CA_DIRECTORY} and nothing that begins as node-1 does",
        )
    return name


class Files(NamedTuple):
    """What a holder of a certificate has: whom it trusts, its certificate, its key."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def within(cls, directory: Path) -> "Files":
        return cls(directory / CA_FILE, directory / CERT_FILE, directory / KEY_FILE)

    def any_exists(self) -> bool:
        return any(path.exists() for path in self)
