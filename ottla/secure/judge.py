"""What certificates say, and what is wrong with those of one holder."""

import datetime
import os
import stat
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ottla.secure.names import CertificateError, Files, MissingPackage, NodeName, node_name

if TYPE_CHECKING:
    from cryptography import x509

SOON: Final = datetime.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate as people want to know it."""

    common_name: str
    node: NodeName | None
    names: tuple[str, ...]
    """What it may be dialled by: names and addresses, without the node's identity."""
    not_before: datetime.datetime
    not_after: datetime.datetime
    is_ca: bool
    fingerprint: str
    """SHA-256 of the whole, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What one holder's files hold. All is well where there are neither `problems` nor `dated` ones, which time or the
    clock brought about."""

    files: Files
    certificate: Certificate | None = None
    problems: tuple[str, ...] = field(default=())
    dated: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())

    @property
    def wrong(self) -> tuple[str, ...]:
        return self.problems + self.dated


def needed() -> None:
    """Raises CertificateError where the package `cryptography` is missing."""
    try:
        import_module("cryptography.x509")
    except ImportError:
        raise MissingPackage(
            "making and reading certificates needs the Python package cryptography, which is not installed here",
            "pip install cryptography",
        ) from None


def read(path: Path) -> bytes:
    """Raises CertificateError that names the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}", "check the path and its rights"
        ) from None


def load(path: Path) -> "list[x509.Certificate]":
    """The certificates of a PEM file, at least one. Raises CertificateError."""
    needed()
    from cryptography import x509

    data = read(path)
    try:
        found: list[x509.Certificate] = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise CertificateError(f"{path} holds no certificate in PEM", "name the file with the certificate") from None
    return found


def load_key(path: Path) -> Any:
    """A private key. Raises CertificateError."""
    needed()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = read(path)
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise CertificateError(
            f"{path} holds no private key in PEM without a password", "name the file with the key"
        ) from None


def describe(certificate: "x509.Certificate") -> Certificate:
    """What it says, in plain values."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    commons = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names: list[str] = []
    try:
        alternatives: Any = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternatives.get_values_for_type(x509.DNSName)
        names += map(str, alternatives.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    try:
        is_ca = bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        is_ca = False
    nodes = [node for node in map(node_name, names) if node is not None]
    return Certificate(
        common_name=str(commons[0].value) if commons else "",
        node=nodes[0] if len(nodes) == 1 else None,
        names=tuple(name for name in names if node_name(name) is None),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        is_ca=is_ca,
        fingerprint=certificate.fingerprint(SHA256()).hex(),
    )


def examine(files: Files, now: datetime.datetime) -> Holder:
    """What one holder has, and all that is wrong with it."""
    problems: list[str] = []
    dated: list[str] = []
    warnings: list[str] = []
    loaded: Any = None
    try:
        loaded = load(files.cert)[0]
    except CertificateError as error:
        problems.append(error.message)
    try:
        key = load_key(files.key)
        if loaded is not None and key.public_key() != loaded.public_key():
            problems.append(f"{files.key} is not the key of {files.cert}")
        if _open_to_others(files.key):
            warnings.append(f"{files.key} can be read by others than its owner: chmod 600")
    except CertificateError as error:
        problems.append(error.message)
    try:
        authorities = load(files.ca)
        if loaded is not None and not any(is_signed(loaded, authority) for authority in authorities):
            problems.append(f"{files.cert} was not signed by {files.ca}")
        for authority in authorities:
            _judge_dates(describe(authority), files.ca, now, dated, warnings)
    except CertificateError as error:
        problems.append(error.message)
    certificate = None if loaded is None else describe(loaded)
    if certificate is not None:
        _judge_dates(certificate, files.cert, now, dated, warnings)
        meant = files.cert.parent.name
        if meant.startswith("node-") and (certificate.node is None or meant != f"node-{certificate.node.node_id}"):
            problems.append(f"{files.cert} is not {meant}'s: it was made for {certificate.common_name or 'somebody'}")
    return Holder(files, certificate, tuple(problems), tuple(dated), tuple(warnings))


def examine_ca(cert: Path, key: Path, now: datetime.datetime) -> Holder:
    """The CA itself; the key may be kept elsewhere."""
    problems: list[str] = []
    dated: list[str] = []
    warnings: list[str] = []
    certificate = None
    try:
        trusted = load(cert)
        loaded = trusted[0]
        if key.exists():
            public = load_key(key).public_key()
            loaded = next((each for each in trusted if each.public_key() == public), loaded)
            if public != loaded.public_key():
                problems.append(f"{key} is not the key of {cert}")
            if _open_to_others(key):
                warnings.append(f"{key} can be read by others than its owner: chmod 600")
        certificate = describe(loaded)
        _judge_dates(certificate, cert, now, dated, warnings)
    except CertificateError as error:
        problems.append(error.message)
    return Holder(Files(cert, cert, key), certificate, tuple(problems), tuple(dated), tuple(warnings))


def _judge_dates(
    certificate: Certificate, path: Path, now: datetime.datetime, dated: list[str], warnings: list[str]
) -> None:
    if now > certificate.not_after:
        dated.append(f"{path} expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC")
    elif now < certificate.not_before:
        dated.append(f"{path} is not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC: check the clock")
    elif now > certificate.not_after - SOON:
        warnings.append(f"{path} expires on {certificate.not_after:%Y-%m-%d %H:%M} UTC")


def is_signed(certificate: "x509.Certificate", authority: "x509.Certificate") -> bool:
    """Whether an authority signed it itself."""
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _open_to_others(path: Path) -> bool:
    """Its group may read it: containers do so, and Kubernetes. Windows has no such bits."""
    return os.name == "posix" and bool(path.stat().st_mode & (stat.S_IWGRP | stat.S_IRWXO))


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
