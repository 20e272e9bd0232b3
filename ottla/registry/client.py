"""A client of a schema registry: Confluent's, Karapace, Apicurio's ccompat API, or whatever else speaks it."""

import base64
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ottla.client import arguments
from ottla.client.errors import ConfigError, SchemaRegistryError
from ottla.client.login import checked_password, password_in
from ottla.client.tls import PathText, Tls, tls_of
from ottla.registry.loads import Loads
from ottla.secure.diagnosis import Shown
from ottla.v1 import error_pb2 as pb

Kind = Literal["AVRO", "JSON", "PROTOBUF"]

_MEDIA: Final = "application/vnd.schemaregistry.v1+json"
_ANSWER_MAX_BYTES: Final = 16 * 1024 * 1024
_ID_MAX: Final = 2**31 - 1
_BACKOFF_S: Final = 0.05
_TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_NEXT: Final = {
    401: "check the user and the password, or the token",
    403: "ask for the right to read, or to write, this subject",
    404: "check the subject, the version or the id, or register the schema first",
    409: "change the schema so that it is compatible, or the subject's compatibility level",
    422: "mend the schema",
}


class Reference(NamedTuple):
    """Another schema that a schema uses, under the name that it uses for it: a type in Avro, a file in Protobuf, a URL
    in JSON Schema."""

    name: str
    subject: str
    version: int


class Schema(NamedTuple):
    """A schema as a registry has it: its text, its kind and the schemas that it refers to."""

    text: str
    kind: Kind
    references: tuple[Reference, ...] = ()


class RegisteredSchema(NamedTuple):
    """A version of a subject. `id` names the schema in records; it is the same in all subjects."""

    subject: str
    version: int
    id: int
    schema: Schema


class SchemaRegistry:
    """A schema registry by its URL, or by several of the same one, tried in turn.

    Its methods block, for `request_timeout_ms` at most with all tries; the serializers call them beside the event loop,
    and anything else may with `asyncio.to_thread`. What an id means never changes, so it is asked once. `user` with
    `password` or `password_file` is HTTP's Basic, which API keys use, too; `token` (or a function that answers one)
    is Bearer. `tls` is whom to trust and the client's own certificate, as everywhere in Ottla; without it https trusts
    whom the machine trusts. Proxies come from the environment (https_proxy, no_proxy). Raises ConfigError.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
        token: str | Callable[[], str] | None = None,
        tls: Tls | PathText | None = None,
        request_timeout_ms: int = 5_000,
    ) -> None:
        self.urls = _urls(url)
        self._timeout_s = arguments.whole("request_timeout_ms", request_timeout_ms, 1, _ID_MAX) / 1000
        self._authorization = _authorization(user, password, password_file, token)
        if tls is not None and not all(url.startswith("https:") for url in self.urls):
            raise ConfigError(f"tls is given, but {self.urls[0]} is not https. Next: write https://")
        client_tls = None if tls is None else tls_of(tls)
        self._tls = None if client_tls is None else client_tls.shown
        self._context = _context(self._tls) if any(url.startswith("https:") for url in self.urls) else None
        self._schemas: Loads[int, Schema] = Loads(self._ask_schema)
        self._versions: Loads[tuple[str, int], RegisteredSchema] = Loads(self._ask_version)

    def schema(self, schema_id: int) -> Schema:
        """What an id means. Raises SchemaRegistryError."""
        return self._schemas.wait(arguments.whole("schema_id", schema_id, 0, _ID_MAX))

    def register(self, subject: str, schema: Schema) -> int:
        """Makes the schema a version of the subject, if it is none yet. Answers its id. Raises SchemaRegistryError,
        with status 409 where the schema is not compatible with the versions before it."""
        answer = self._ask("POST", f"/subjects/{_quoted(subject)}/versions", _body(schema))
        return _whole(answer, "id")

    def lookup(self, subject: str, schema: Schema) -> RegisteredSchema:
        """The version of the subject that is this schema. Raises SchemaRegistryError, with status 404 if none is."""
        answer = self._ask("POST", f"/subjects/{_quoted(subject)}", _body(schema))
        return RegisteredSchema(subject, _whole(answer, "version"), _whole(answer, "id"), schema)

    def latest(self, subject: str) -> RegisteredSchema:
        """The subject's newest version. Raises SchemaRegistryError."""
        return _registered(self._ask("GET", f"/subjects/{_quoted(subject)}/versions/latest"))

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """One version of a subject, from 1 on. Raises SchemaRegistryError."""
        arguments.name("subject", subject)
        return self._versions.wait((subject, arguments.whole("version", version, 1, _ID_MAX)))

    def _ask_schema(self, schema_id: int) -> Schema:
        return _schema(self._ask("GET", f"/schemas/ids/{schema_id}"))

    def _ask_version(self, key: tuple[str, int]) -> RegisteredSchema:
        return _registered(self._ask("GET", f"/subjects/{_quoted(key[0])}/versions/{key[1]}"))

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """All that is asked may be asked again: to register a schema twice is to register it once."""
        give_up = time.monotonic() + self._timeout_s
        backoff_s = _BACKOFF_S
        while True:
            for number, url in enumerate(self.urls):
                try:
                    return self._once(url, method, path, body, give_up, len(self.urls) - number)
                except SchemaRegistryError as error:
                    if not error.retriable:
                        raise
                    last = error
            if time.monotonic() + backoff_s >= give_up:
                raise last
            time.sleep(backoff_s)
            backoff_s *= 2

    def _once(
        self, url: str, method: str, path: str, body: dict[str, Any] | None, give_up: float, tries: int
    ) -> dict[str, Any]:
        left_s = max(0.001, (give_up - time.monotonic()) / tries)
        request = urllib.request.Request(url + path, method=method, headers={"Accept": _MEDIA})
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", _MEDIA)
        if (authorization := self._authorization()) is not None:
            request.add_unredirected_header("Authorization", authorization)
        if self._context is not None and self._tls is not None:
            self._context = _context(self._tls)  # the files may have been replaced
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context))
        try:
            with opener.open(request, timeout=left_s) as answer:
                data = _read(answer, url, give_up)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error, f"{method} {url}{path}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLCertVerificationError):  # as it will be the next time
                raise SchemaRegistryError(
                    f"the certificate of the schema registry at {url} is not trusted: {reason.verify_message}. "
                    "Next: name whom to trust with tls=",
                    pb.ERROR_CODE_INVALID_REQUEST,
                ) from None
            raise _unreachable(url, str(reason) or type(reason).__name__) from None
        try:
            said = json.loads(data)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise _no_registry(url, f"{method} {path} was answered with {arguments.shown(data[:80])}")
        return said


def _urls(given: str | Sequence[str]) -> list[str]:
    each = given.split(",") if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else [given]
    found = []
    for url in each:
        text = arguments.text("url", url).strip().rstrip("/")
        try:
            parts = urllib.parse.urlsplit(text)
            is_fit = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            is_fit = False
        if "@" in text:
            raise ConfigError("url holds a user or a password, which logs would show. Next: pass user= and password=")
        if not is_fit or parts.query or parts.fragment or not text.isprintable() or " " in text:
            raise ConfigError(f"url {arguments.shown(text)} is no URL of a registry, such as https://registry:8081")
        found.append(text)
    if not found:
        raise ConfigError("url is an empty list. Next: name a registry, such as https://registry:8081")
    return found


def _authorization(
    user: str | None, password: str | None, password_file: PathText | None, token: str | Callable[[], str] | None
) -> Callable[[], str | None]:
    """What says the header's value, at each request: a file, or a token, may have been replaced."""
    if token is not None:
        if user is not None or password is not None or password_file is not None:
            raise ConfigError("token and user are both given. Next: leave one of them out")
        if callable(token):
            ask = token
            return lambda: _bearer(ask())
        bearer = _bearer(token)
        return lambda: bearer
    if user is None:
        if password is not None or password_file is not None:
            raise ConfigError("a password is given without a user. Next: pass user=")
        return lambda: None
    name = arguments.name("user", user)
    if ":" in name:
        raise ConfigError(f"user {arguments.shown(name)} has a colon, which HTTP's Basic can't carry")
    if (password is None) == (password_file is None):
        raise ConfigError("user needs one of password and password_file. Next: pass one")
    if password_file is not None:
        if not isinstance(password_file, str | os.PathLike):
            raise ConfigError(f"password_file {arguments.shown(password_file)} is no path")
        path = Path(password_file)
        password_in(path)  # what is wrong with it is said now
        return lambda: _basic(name, password_in(path))
    given = checked_password(password)
    return lambda: _basic(name, given)


def _bearer(token: object) -> str:
    """Raises ConfigError, which does not show it."""
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise ConfigError("token is no text that HTTP can carry: printable ASCII, and not empty")
    return f"Bearer {token}"


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _context(tls: Shown | None) -> ssl.SSLContext:
    if tls is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise ConfigError(
            f"tls: {error}. Next: check that the files are PEM, and that the key is the certificate's"
        ) from None
    return context


def _read(answer: http.client.HTTPResponse, url: str, give_up: float) -> bytes:
    data = bytearray()
    while chunk := answer.read1(65536):
        data += chunk
        if len(data) > _ANSWER_MAX_BYTES:
            raise _no_registry(url, f"an answer has more than {_ANSWER_MAX_BYTES} bytes")
        if time.monotonic() > give_up:
            raise _unreachable(url, "its answer did not end in time")
    return bytes(data)


def _refusal(error: urllib.error.HTTPError, what: str) -> SchemaRegistryError:
    try:
        said = json.loads(error.read(65536))
        error_code, message = int(said["error_code"]), str(said["message"])
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        error_code, message = error.code, str(error.reason)
    shown = "".join(c if c.isprintable() else " " for c in message)[:500].rstrip(". ")
    again = error.code in _TRY_AGAIN
    step = _NEXT.get(error.code, "look into the registry's log" if again else "check the URL")
    return SchemaRegistryError(
        f"{what} was refused with {error.code}, code {error_code}: {shown}. Next: {step}",
        pb.ERROR_CODE_NETWORK_EXCEPTION if again else pb.ERROR_CODE_INVALID_REQUEST,
        retriable=again,
        status=error.code,
        error_code=error_code,
    )


def _unreachable(url: str, why: str) -> SchemaRegistryError:
    return SchemaRegistryError(
        f"the schema registry at {url} does not answer: {why}. Next: check the URL, and that it runs",
        pb.ERROR_CODE_NETWORK_EXCEPTION,
        retriable=True,
    )


def _no_registry(url: str, what: str) -> SchemaRegistryError:
    return SchemaRegistryError(
        f"{url} does not speak a schema registry's API: {what}. Next: check the URL; Apicurio's has a path of its own",
        pb.ERROR_CODE_INVALID_REQUEST,
    )


def _quoted(subject: str) -> str:
    return urllib.parse.quote(arguments.name("subject", subject), safe="")


def _body(schema: Schema) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": schema.text}
    if schema.kind != "AVRO":
        body["schemaType"] = schema.kind
    if schema.references:
        body["references"] = [reference._asdict() for reference in schema.references]
    return body


def _whole(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _ID_MAX:
        raise SchemaRegistryError(
            f"the registry's answer has no {name}: {arguments.shown(answer)}. Next: check the URL",
            pb.ERROR_CODE_INVALID_REQUEST,
        )
    return value


def _schema(answer: dict[str, Any]) -> Schema:
    text, kind, references = answer.get("schema"), answer.get("schemaType", "AVRO"), answer.get("references") or ()
    try:
        if isinstance(text, str) and kind in ("AVRO", "JSON", "PROTOBUF"):
            found = tuple(Reference(str(r["name"]), str(r["subject"]), int(r["version"])) for r in references)
            return Schema(text, kind, found)
    except (KeyError, TypeError, ValueError):
        pass
    raise SchemaRegistryError(
        f"the registry's answer is no schema that is known here: {arguments.shown(answer)}. Next: check the URL",
        pb.ERROR_CODE_INVALID_REQUEST,
    )


def _registered(answer: dict[str, Any]) -> RegisteredSchema:
    return RegisteredSchema(
        str(answer.get("subject", "")), _whole(answer, "version"), _whole(answer, "id"), _schema(answer)
    )
