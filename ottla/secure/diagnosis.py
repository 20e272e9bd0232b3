"""Why a connection with certificates does not come about, found out by a second try with Python's own ssl.

gRPC says of most of it that the socket was closed: a node that refuses a certificate ends the connection, no more. So
one's own certificate is judged here, with a handshake in memory, and the other side's with a real one.
"""

import contextlib
import errno
import socket
import ssl
from pathlib import Path
from typing import Final, NamedTuple

TIMEOUT_S: Final = 2.0
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_NAMES: Final = {62, 64}


class Shown(NamedTuple):
    """PEM files: whom to trust, and what is shown to the other side, if anything is."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


class Cause(NamedTuple):
    """`kind` is for programs, the rest for people."""

    kind: str
    message: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.message}. Next: {self.next_step}"


def diagnose(address: str, files: Shown | None, name: str | None = None) -> Cause | None:
    """Tries it; blocks for a few seconds at most. `files` None: without TLS. `name`: whom the other side must be, by
    default the host of the address. None: it is not the certificates."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if files is None:
        return _wants_tls(address)
    return _own(files) or _others(host, port, address, files, name or host)


def speaks_tls(address: str) -> bool | None:
    """Whether TLS is spoken there, whoever it is; None: nobody answered. Blocks for a few seconds at most."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        raw = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S)
    except (OSError, ValueError):
        return None
    try:
        with raw, context.wrap_socket(raw):
            return True
    except TimeoutError:
        return None
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _wants_tls(address: str) -> Cause | None:
    """A client without certificates, at a port that may want them."""
    if not speaks_tls(address):
        return None
    return Cause(
        "tls_port",
        f"{address} wants TLS, and this client has no certificates to use",
        "name the directory with ca.crt, tls.crt and tls.key: tls=..., OTTLA_TLS_DIR, or `ottla profile create --tls`",
    )


def _own(files: Shown) -> Cause | None:
    """What the other side will say of our certificate, if it trusts whom we trust: found in memory."""
    if files.cert is None:
        return None
    try:
        accepts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accepts.load_cert_chain(files.cert, files.key)
        accepts.load_verify_locations(files.ca)
        accepts.verify_mode = ssl.CERT_REQUIRED
        shows = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        shows.check_hostname, shows.verify_mode = False, ssl.CERT_NONE
        shows.load_cert_chain(files.cert, files.key)
    except (OSError, ValueError) as error:
        return Cause("unusable_files", f"{files.cert} with {files.key}: {error}", "`ottla secure status` says more")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = shows.wrap_bio(back, there), accepts.wrap_bio(there, back, server_side=True)
    try:
        for side in (client, server, client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_EXPIRED, _NOT_YET):
            return _dates(f"the own certificate {files.cert}", error)
        return Cause(
            "wrong_ca",
            f"the own certificate {files.cert} was not signed by {files.ca}: {error.verify_message}",
            "take both from the same directory of `ottla secure`",
        )
    except ssl.SSLError as error:
        return Cause("unusable_files", f"{files.cert}: {error.reason}", "`ottla secure status` says more")
    return None


def _others(host: str, port: str, address: str, files: Shown, name: str) -> Cause | None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(files.ca)
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key)
    except (OSError, ValueError) as error:
        return Cause("unusable_files", f"{files.ca}: {error}", "`ottla secure status` says more")
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, int(port)), TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=name) as wrapped,
        ):
            # The handshake of TLS 1.3 ends here before the other side has seen our certificate: it speaks, or closes.
            wrapped.settimeout(TIMEOUT_S)
            spoke = wrapped.recv(1) != b""
    except ssl.SSLCertVerificationError as error:
        return _refused_by_us(address, files, name, error)
    except ssl.SSLError as error:
        if error.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
            "HTTP_REQUEST",
            "UNEXPECTED_EOF_WHILE_READING",
        ):
            return _plaintext(address)
        return _refused_by_them(address, files)
    except TimeoutError:
        return None
    except OSError as error:
        return _refused_by_them(address, files) if error.errno == errno.ECONNRESET else None
    except ValueError:
        return None
    return None if spoke else _refused_by_them(address, files)


def _refused_by_us(address: str, files: Shown, name: str, error: ssl.SSLCertVerificationError) -> Cause:
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return _dates(f"the certificate of {address}", error)
    if error.verify_code in _NAMES:
        return Cause(
            "wrong_name",
            f"the certificate of {address} is not for {name!r}",
            "dial it by a name in its certificate, or make one with this name: `ottla secure add --san`",
        )
    return Cause(
        "wrong_ca",
        f"the certificate of {address} was not signed by {files.ca}: {error.verify_message}",
        "check the address, and that the CA's file is that of this cluster",
    )


def _refused_by_them(address: str, files: Shown) -> Cause:
    if files.cert is None:
        return Cause(
            "missing_certificate",
            f"{address} wants a certificate, and this client has none",
            "make one with `ottla secure add --client NAME`, and name its tls.crt and tls.key",
        )
    return Cause(
        "certificate_refused",
        f"{address} ended the connection when it saw the certificate {files.cert}: it trusts another CA, or its clock "
        "says that the certificate is not valid",
        "compare the ca.crt of both sides, and their clocks",
    )


def _plaintext(address: str) -> Cause:
    return Cause(
        "plaintext_port",
        f"{address} does not speak TLS",
        "check the port, and that security is on there; for a cluster without TLS leave the certificates out",
    )


def _dates(whose: str, error: ssl.SSLCertVerificationError) -> Cause:
    if error.verify_code == _EXPIRED:
        return Cause("expired", f"{whose} has expired", "`ottla secure renew` makes a new one")
    return Cause("not_yet_valid", f"{whose} is not valid yet", "check the clocks of both machines")


_SEEN_BY_A_NODE: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client shows no certificate, and this listener wants one",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust this node's certificate: it has another CA in its ca.crt",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not take this node's certificate: it may be for another name",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not take this node's certificate: it may be for another name",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that this node's certificate has expired",
    "NO_SHARED_CIPHER": "the client knows none of this node's ciphers",
    "UNSUPPORTED_PROTOCOL": "the client knows no version of TLS from 1.2 on",
    "UNEXPECTED_EOF_WHILE_READING": "the client ended the handshake: it may not take this node's certificate",
}


def why_not_shaken(error: BaseException) -> str:
    """What a node that was dialled says of a handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (_EXPIRED, _NOT_YET):
            return f"the client's certificate {'has expired' if error.verify_code == _EXPIRED else 'is not valid yet'}"
        return f"the client's certificate was not signed by a CA in this node's ca.crt: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return _SEEN_BY_A_NODE.get(error.reason or "", f"the handshake failed: {error.reason or error}")
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return "the client did not end the handshake in time"
    return "the client ended the handshake: it may not take this node's certificate"
