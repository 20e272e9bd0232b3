"""SCRAM by the vectors of its RFCs, and what a server says to messages that are none of a login."""

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.protocol import scram
from ottla.protocol.scram import SHA_256, SHA_512, Mechanism, ServerExchange

SHA_1 = Mechanism(0, "SCRAM-SHA-1", "sha1", 20)
NONCE = "client"


def kept(mechanism: Mechanism = SHA_256, password: str = "pencil", salt: bytes = b"saltsalt") -> scram.Credential:
    return scram.credential(mechanism, scram.salted_password(mechanism, password, salt, 4096), salt, 4096)


def exchange(mechanism: Mechanism = SHA_256, credential: scram.Credential | None = None) -> ServerExchange:
    return ServerExchange(mechanism, lambda user: credential or kept(mechanism), "server")


def proof(mechanism: Mechanism, password: str, bare: str, first: bytes, without_proof: str) -> str:
    """What a client sends last, from the RFC's own formulas."""
    salt, iterations = first.decode().split(",")[1:]
    salted = hashlib.pbkdf2_hmac(mechanism.hash, password.encode(), b64decode(salt[2:]), int(iterations[2:]))
    client_key = hmac.digest(salted, b"Client Key", mechanism.hash)
    message = f"{bare},{first.decode()},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(mechanism.hash, client_key).digest(), message, mechanism.hash)
    return b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()


def log_in(server: ServerExchange, mechanism: Mechanism, user: str, password: str) -> bytes:
    bare = f"n={user},r={NONCE}"
    first = server.first(f"n,,{bare}".encode())
    last = "c=biws,r=clientserver"
    return server.final(f"{last},p={proof(mechanism, password, bare, first, last)}".encode())


@pytest.mark.parametrize(
    ("mechanism", "client_nonce", "server_nonce", "salt", "client_proof", "signature"),
    [
        (
            SHA_1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "3rfcNHYJY1ZVvWVs7j",
            "QSXCR+Q6sek8bf92",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            SHA_256,
            "rOprNGfwEbeRWgbNEkqO",
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
    ids=["RFC 5802", "RFC 7677"],
)
def test_the_vectors_of_the_rfcs(
    mechanism: Mechanism, client_nonce: str, server_nonce: str, salt: str, client_proof: str, signature: str
) -> None:
    credential = kept(mechanism, salt=b64decode(salt))
    server = ServerExchange(mechanism, {"user": credential}.__getitem__, server_nonce)
    nonce = client_nonce + server_nonce
    assert server.first(f"n,,n=user,r={client_nonce}".encode()) == f"r={nonce},s={salt},i=4096".encode()
    assert server.final(f"c=biws,r={nonce},p={client_proof}".encode()) == f"v={signature}".encode()
    assert (server.user, server.kept) == ("user", credential)


@pytest.mark.parametrize("mechanism", scram.MECHANISMS.values(), ids=lambda each: each.name)
def test_the_right_password_and_another_one(mechanism: Mechanism) -> None:
    assert log_in(exchange(mechanism), mechanism, "user", "pencil").startswith(b"v=")
    with pytest.raises(scram.WrongProof):
        log_in(exchange(mechanism), mechanism, "user", "Pencil")
    assert scram.is_password(mechanism, kept(mechanism), "pencil")
    assert not scram.is_password(mechanism, kept(mechanism), "pencil ")


def test_names_with_commas_and_equals_signs() -> None:
    server = exchange()
    log_in(server, SHA_256, "a=2Cb=3Dc=3D2C", "pencil")
    assert server.user == "a,b=c=2C"
    exchange().first(b"y,a=user,n=user,r=x,some=extension")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"n,,n=user,r=a\0b",
        b"n,,n=user",
        b"n,,n=,r=x",
        b"n,,r=x,n=user",
        b"n,,n=us=er,r=x",
        b"n,,n=user=2c,r=x",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=" + b"x" * 257,
        b"n,,m=mandatory,n=user,r=x",
        b"p=tls-unique,,n=user,r=x",
        b"n,b=user,n=user,r=x",
        b"n,a=admin,n=user,r=x",
        b"x,,n=user,r=x",
        b"n,,n=" + b"u" * 5000 + b",r=x",
        b"c=biws,r=clientserver,p=AAAA",
        b"," * 4000,
    ],
)
def test_a_first_message_that_is_none(message: bytes) -> None:
    with pytest.raises(scram.ScramError) as error:
        exchange().first(message)
    assert "user" not in str(error.value).replace("user name", "").replace("another user", "")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"c=biws,r=clientserver",
        b"c=biws,r=clientserver,p=",
        b"c=biws,r=clientserver,p=====",
        b"c=biws,r=clientserver,p=not base64",
        b"c=biws,r=clientserver,p=\xc3\xa4",
        b"c=biws,r=clientserver,p=" + b64encode(bytes(31)),
        b"c=biws,r=clientserver,p=" + b64encode(bytes(32)),
        b"c=biws,r=clientserver,p=" + b64encode(bytes(33)),
        b"c=biws,r=client,p=" + b64encode(bytes(32)),
        b"c=biws,r=server,p=" + b64encode(bytes(32)),
        b"c=eSws,r=clientserver,p=" + b64encode(bytes(32)),
        b"c=,r=clientserver,p=" + b64encode(bytes(32)),
        b"c=???,r=clientserver,p=" + b64encode(bytes(32)),
        b"r=clientserver,c=biws,p=" + b64encode(bytes(32)),
        b"n,,n=user,r=x",
        b"c=biws,r=clientserver,p=" + b"A" * 5000,
    ],
)
def test_a_second_message_that_is_none_and_there_is_no_second_try(message: bytes) -> None:
    server = exchange()
    first = server.first(b"n,,n=user,r=client")
    with pytest.raises(scram.ScramError):
        server.final(message)
    last = "c=biws,r=clientserver"
    right = proof(SHA_256, "pencil", "n=user,r=client", first, last)
    with pytest.raises(scram.ScramError, match="before the first"):
        server.final(f"{last},p={right}".encode())
    assert server.kept is None


@pytest.mark.parametrize(
    ("last", "wrong"),
    [
        ("c=eSws,r=clientserver", "channel binding"),
        ("c=biws,r=clientserver2", "nonce"),
        ("c=biws,r=client", "nonce"),
    ],
)
def test_the_right_password_in_a_message_of_another_login(last: str, wrong: str) -> None:
    server = exchange()
    first = server.first(b"n,,n=user,r=client")
    right = proof(SHA_256, "pencil", "n=user,r=client", first, last)
    with pytest.raises(scram.ScramError, match=wrong):
        server.final(f"{last},p={right}".encode())


def test_the_second_message_before_the_first() -> None:
    with pytest.raises(scram.ScramError, match="before the first"):
        exchange().final(b"c=biws,r=clientserver,p=AAAA")


@given(st.binary(max_size=200) | st.text(alphabet="nyrcp=,abi2CD3ws", max_size=60).map(str.encode))
def test_nothing_else_than_scram_errors_comes_out(message: bytes) -> None:
    server = exchange(credential=scram.nobodys(SHA_256, "x", b"k"))
    for step in (server.first, server.final, server.first):
        try:
            step(message)
        except scram.ScramError:
            continue


def test_who_is_not_there_looks_like_anybody_else() -> None:
    made = scram.nobodys(SHA_512, "mallory", b"secret")
    assert made == scram.nobodys(SHA_512, "mallory", b"secret")
    assert made.salt != scram.nobodys(SHA_512, "mallorY", b"secret").salt
    assert made.salt != scram.nobodys(SHA_512, "mallory", b"secreT").salt
    assert made.salt != scram.nobodys(SHA_256, "mallory", b"secret").salt
    assert (len(made.salt), made.iterations) == (scram.SALT_BYTES, scram.ITERATIONS)
    assert (len(made.stored_key), len(made.server_key)) == (64, 64)
    with pytest.raises(scram.WrongProof, match="wrong user or password"):
        log_in(exchange(SHA_512, made), SHA_512, "mallory", "pencil")


def test_a_credential_does_not_show_itself() -> None:
    assert repr(kept()) == "Credential(iterations=4096)"


@pytest.mark.parametrize("mechanism", scram.MECHANISMS.values())
def test_our_client_and_our_server_agree(mechanism: Mechanism) -> None:
    for user, password in (("alice", "pencil"), ("a,=b", "=,"), ("älice", "pässword")):
        server = exchange(mechanism, kept(mechanism, password))
        client = scram.ClientExchange(mechanism, user, password, NONCE)
        client.check(server.final(client.final(server.first(client.first))))
        assert server.user == user
        client = scram.ClientExchange(mechanism, user, password + " ", NONCE)
        server = exchange(mechanism, kept(mechanism, password))
        with pytest.raises(scram.WrongProof):
            server.final(client.final(server.first(client.first)))


def test_our_client_by_the_vector_of_rfc_7677() -> None:
    client = scram.ClientExchange(SHA_256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert client.first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    final = client.final(f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
    assert final == f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    client.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(scram.ScramError, match="does not prove"):
        client.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"r=client,s=c2FsdA==,i=4096",
        b"r=other,s=c2FsdA==,i=4096",
        b"r=clientserver,s=c2FsdA==,i=4095",
        b"r=clientserver,s=c2FsdA==,i=16385",
        b"r=clientserver,s=c2FsdA==,i=" + b"9" * 3000,
        b"r=clientserver,s=c2FsdA==,i=-4096",
        b"r=clientserver,s=?,i=4096",
        b"m=x,r=clientserver,s=c2FsdA==,i=4096",
        b"\xff",
    ],
)
def test_a_server_that_answers_something_else_gets_no_proof(answer: bytes) -> None:
    with pytest.raises(scram.ScramError):
        scram.ClientExchange(SHA_256, "alice", "pencil", NONCE).final(answer)
