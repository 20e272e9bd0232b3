"""Another CA for a cluster that runs, in three steps. Before the next one every node and client has the files of the
step before: nobody ever meets a certificate that it does not trust.

    1 trust    ca.crt holds both CAs, certificates are still signed by the old one
    2 sign     all certificates are new, and signed by the new CA
    3 forget   ca.crt holds the new CA alone

Each can be repeated where it was interrupted.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ottla.secure import judge
from ottla.secure.issue import Authority, holders, make_ca, pem, pem_of_key, write
from ottla.secure.names import CA_DIRECTORY, CA_FILE, CA_KEY_FILE, CertificateError, Files

if TYPE_CHECKING:
    from cryptography import x509

NEXT_KEY_FILE: Final = "next.key"
TRUST, SIGN, FORGET = 1, 2, 3


def steps_done(directory: Path) -> int:
    """How far a rotation has come; 0: none is under way. Raises CertificateError."""
    ca = directory / CA_DIRECTORY
    if (ca / NEXT_KEY_FILE).exists():
        return TRUST
    return SIGN if len(judge.load(ca / CA_FILE)) > 1 else 0


def take_step(directory: Path, step: int, days: int) -> None:
    """Raises CertificateError where it is not this step's turn."""
    authority = Authority.open(directory)
    done = steps_done(directory)
    if step not in (done, done + 1) or (step == TRUST and done == SIGN):
        after = f"step {done} of a rotation is done" if done else "no rotation is under way"
        raise CertificateError(
            f"{after}, so step {step} is not next", f"`ottla secure rotate-ca {directory} --step {done + 1}`"
        )
    if step == TRUST:
        _trust(directory, authority)
    elif step == SIGN:
        _sign(directory, days)
    else:
        _forget(directory, authority)


def _trust(directory: Path, authority: Authority) -> None:
    ca = directory / CA_DIRECTORY
    found = judge.load(ca / CA_FILE)
    if not (ca / NEXT_KEY_FILE).exists() or _of_key(found, ca / NEXT_KEY_FILE) is None:
        # Another name: who looks for an issuer by its name finds one.
        certificate, key = make_ca(authority.cluster_id, f"Ottla CA {secrets.token_hex(4)}")
        write(ca / NEXT_KEY_FILE, pem_of_key(key))
        write(ca / CA_FILE, pem(authority.certificate) + pem(certificate))
    _hand_out(directory, judge.read(ca / CA_FILE))


def _sign(directory: Path, days: int) -> None:
    ca = directory / CA_DIRECTORY
    if (ca / NEXT_KEY_FILE).exists():
        if _of_key(judge.load(ca / CA_FILE), ca / NEXT_KEY_FILE) is None:
            raise CertificateError(
                f"{ca / CA_FILE} has no certificate for {ca / NEXT_KEY_FILE}",
                f"`ottla secure rotate-ca {directory} --step 1` again",
            )
        (ca / NEXT_KEY_FILE).replace(ca / CA_KEY_FILE)
    authority = Authority.open(directory)
    for asked in authority.issued():
        authority.issue(asked, days, replace=True)


def _forget(directory: Path, authority: Authority) -> None:
    old = [path.name for path in holders(directory) if not authority.signed(judge.load(Files.within(path).cert)[0])]
    if old:
        raise CertificateError(
            f"the certificates of {', '.join(old)} are not signed by the new CA",
            f"`ottla secure rotate-ca {directory} --step 2` again, and have everybody take the files",
        )
    _hand_out(directory, pem(authority.certificate))
    write(directory / CA_DIRECTORY / CA_FILE, pem(authority.certificate))


def _hand_out(directory: Path, trusted: bytes) -> None:
    for path in holders(directory):
        write(Files.within(path).ca, trusted)


def _of_key(certificates: "list[x509.Certificate]", path: Path) -> Any:
    """The certificate that a key is for."""
    public = judge.load_key(path).public_key()
    return next((each for each in certificates if each.public_key() == public), None)
