"""Making certificates: a CA of the cluster's own, and below it one directory for each node and each client.

    DIRECTORY/ca/ca.crt ca.key         stays with the operator
    DIRECTORY/node-1/ca.crt tls.crt tls.key    goes to node 1, as a whole, and nothing else does
    DIRECTORY/admin/ca.crt tls.crt tls.key     goes to whoever administrates

A file is written whole or not at all, for its owner alone, and none is replaced unless that is what was asked for.
"""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.secure import judge
from ottla.secure.names import (
    CA_DIRECTORY,
    CA_FILE,
    CA_KEY_FILE,
    CertificateError,
    Files,
    NodeName,
    check_client_name,
)

if TYPE_CHECKING:
    from cryptography import x509

CA_DAYS: Final = 3650
DAYS: Final = 365
_BEFORE: Final = datetime.timedelta(minutes=5)
"""Clocks differ: a certificate is valid a little before it was made."""
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class Asked(NamedTuple):
    """A certificate to make. `node_id` 0: a client's, with that common name."""

    node_id: int
    common_name: str
    names: tuple[str, ...] = ()


def asked_node(node_id: int, names: Sequence[str]) -> Asked:
    """A node's. It can be dialled by this machine's own names, too, wherever it is."""
    return Asked(node_id, f"node-{node_id}", tuple(dict.fromkeys([*LOCAL_NAMES, *map(checked_name, names)])))


def asked_client(name: str) -> Asked:
    return Asked(0, check_client_name(name))


def checked_name(name: str) -> str:
    """A host name or an address. Raises CertificateError."""
    bare = name.strip("[]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        labels = name.rstrip(".").removeprefix("*.").split(".")
    if len(name) > 253 or not all(
        0 < len(label) < 64 and label.isascii() and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    ):
        raise CertificateError(f"{name!r} is neither a host name nor an address", "leave out the port, if there is one")
    return name.rstrip(".").lower()


class Authority:
    """The CA in a directory."""

    def __init__(self, directory: Path, certificate: "x509.Certificate", key: Any) -> None:
        self.directory = directory
        self.certificate = certificate
        self._key = key
        self.cluster_id = str(_organization(certificate))

    @classmethod
    def make(cls, directory: Path, cluster_id: str | None, *, replace: bool) -> "Authority":
        """A new one. Raises CertificateError where there is one and it is not to be replaced."""
        judge.needed()
        path = directory / CA_DIRECTORY / CA_KEY_FILE
        beside = directory / CA_DIRECTORY / CA_FILE
        if not replace and (path.exists() or beside.exists()):
            raise CertificateError(
                f"there is a CA in {path.parent}: without it no certificate of its cluster could be renewed",
                "`ottla secure add` makes certificates for more nodes and clients, `ottla secure renew` new ones for "
                "all; --replace-ca makes another CA",
            )
        cluster_id = secrets.token_hex(16) if cluster_id is None else _checked_cluster_id(cluster_id)
        certificate, key = make_ca(cluster_id)
        # One that is there, such as /etc, keeps its rights.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(path.parent)
        write(path, pem_of_key(key))
        write(beside, pem(certificate))
        return cls(directory, certificate, key)

    @classmethod
    def open(cls, directory: Path) -> "Authority":
        """The one that is there. Raises CertificateError."""
        judge.needed()
        if not (directory / CA_DIRECTORY).is_dir():
            raise CertificateError(
                f"there is no CA in {directory}", f"make one with `ottla secure init {directory}`, or name another"
            )
        # More than one while it is rotated.
        trusted = judge.load(directory / CA_DIRECTORY / CA_FILE)
        key = judge.load_key(directory / CA_DIRECTORY / CA_KEY_FILE)
        certificate = next((each for each in trusted if each.public_key() == key.public_key()), None)
        if certificate is None:
            raise CertificateError(
                f"{directory / CA_DIRECTORY / CA_KEY_FILE} is not the key of the CA beside it", "restore both files"
            )
        return cls(directory, certificate, key)

    @property
    def expires(self) -> datetime.datetime:
        return judge.describe(self.certificate).not_after

    def signed(self, certificate: "x509.Certificate") -> bool:
        """Whether it is this CA's."""
        return judge.is_signed(certificate, self.certificate)

    def home(self, asked: Asked) -> Path:
        """Where the holder's files are."""
        return self.directory / asked.common_name

    def issue(self, asked: Asked, days: int, *, replace: bool) -> Files:
        """Makes a key and a certificate. Raises CertificateError where there are some that are not to be replaced."""
        home = self.home(asked)
        files = Files.within(home)
        if not replace and (files.cert.exists() or files.key.exists()):
            raise CertificateError(
                f"there is a certificate in {home}", f"`ottla secure renew {self.directory}` replaces it"
            )
        certificate, key = _make_leaf(self.certificate, self._key, self.cluster_id, asked, days)
        _private(home)
        write(files.ca, judge.read(self.directory / CA_DIRECTORY / CA_FILE))
        # Who reads in between finds a key that does not fit, and reads again.
        write(files.key, pem_of_key(key))
        write(files.cert, pem(certificate))
        return files

    def issued(self) -> list[Asked]:
        """What was made so far, by name; what cannot be read is left out."""
        found = []
        for path in sorted(holders(self.directory)):
            try:
                said = judge.describe(judge.load(Files.within(path).cert)[0])
            except CertificateError:
                continue
            node_id = 0 if said.node is None else said.node.node_id
            found.append(Asked(node_id, said.common_name, said.names))
        return found


def _private(folder: Path) -> None:
    """Its owner's alone; and its group's to read, where that was said."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700 | folder.stat().st_mode & 0o050)


def let_group_read(folder: Path) -> None:
    """A holder's files, from now on: what is renewed stays so."""
    folder.chmod(0o750)
    for path in Files.within(folder):
        path.chmod(0o640)


def holders(directory: Path) -> list[Path]:
    """The directories of nodes and clients, nodes first; `directory` itself where it is one holder's."""
    if Files.within(directory).any_exists():
        return [directory]
    found = [path for path in directory.iterdir() if path.name != CA_DIRECTORY and Files.within(path).any_exists()]
    return sorted(found, key=_order)


def _order(path: Path) -> tuple[int, int, str]:
    number = path.name.removeprefix("node-")
    return (0, int(number), "") if number != path.name and number.isdecimal() else (1, 0, path.name)


def write(path: Path, data: bytes) -> None:
    """Whole or not at all, for the owner alone, and his group where it could read what was there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if path.exists():
            beside.chmod(0o600 | path.stat().st_mode & 0o040)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _checked_cluster_id(text: str) -> str:
    try:
        if len(bytes.fromhex(text)) == 16:
            return text.lower()
    except ValueError:
        pass
    raise CertificateError(
        f"{text!r} is no cluster id: it has 32 hexadecimal digits",
        "`ottla cluster status --json` shows that of a cluster that runs; without --cluster-id a new one is drawn",
    )


def _organization(certificate: "x509.Certificate") -> object:
    from cryptography.x509 import NameOID

    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    value = found[0].value if found else ""
    try:
        return _checked_cluster_id(str(value))
    except CertificateError:
        raise CertificateError(
            "this CA names no cluster: it was not made by `ottla secure init`",
            "make the certificates with whatever made it",
        ) from None


def _subject(cluster_id: str, common_name: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, cluster_id),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _usage(*, sign_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def make_ca(cluster_id: str, name: str = "Ottla CA") -> "tuple[x509.Certificate, Any]":
    """A certificate that signs others, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    key, now = _new_key(), judge.utc_now()
    subject = _subject(cluster_id, name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    return certificate, key


def _make_leaf(
    ca: "x509.Certificate", ca_key: Any, cluster_id: str, asked: Asked, days: int
) -> "tuple[x509.Certificate, Any]":
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key, now = _new_key(), judge.utc_now()
    # A certificate that outlives its CA is worth nothing then, and hides it until then.
    end = min(now + datetime.timedelta(days=days), ca.not_valid_after_utc)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if asked.node_id:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    ca_identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(cluster_id, asked.common_name))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
    )
    if asked.node_id:
        names = [str(NodeName(asked.node_id, cluster_id)), *asked.names]
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    return builder.sign(ca_key, SHA256()), key


def _general(name: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(certificate: "x509.Certificate") -> bytes:
    """As files have it."""
    from cryptography.hazmat.primitives.serialization import Encoding

    data: bytes = certificate.public_bytes(Encoding.PEM)
    return data


def pem_of_key(key: Any) -> bytes:
    """As files have it, without a password."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data
