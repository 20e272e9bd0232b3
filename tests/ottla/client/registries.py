"""A schema registry in a few lines: as much of Confluent's REST API as serializers use, over real HTTP."""

import base64
import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Store:
    """What the registry keeps, and how it is to behave."""

    user: str = ""
    """user:password that it wants; nothing: whoever comes."""
    refuses: list[int] = field(default_factory=list)
    """The statuses of its next answers."""
    garbage: bytes = b""
    incompatible: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    schemas: list[dict[str, Any]] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    """While it is cleared, nobody gets an answer."""
    reached: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        match method, path:
            case "GET", ["schemas", "ids", number]:
                if not 0 < int(number) <= len(self.schemas):
                    return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
                return 200, self.schemas[int(number) - 1]
            case "POST", ["subjects", subject, "versions"]:
                if self.incompatible:
                    return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
                schema_id, versions = self._id(body), self.subjects.setdefault(subject, [])
                if schema_id not in versions:
                    versions.append(schema_id)
                return 200, self._registered(subject, versions.index(schema_id))
            case "POST", ["subjects", subject]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                if body not in self.schemas or self._id(body) not in self.subjects[subject]:
                    return 404, {"error_code": 40403, "message": "Schema not found"}
                return 200, self._registered(subject, self.subjects[subject].index(self._id(body)))
            case "GET", ["subjects", subject, "versions", version]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                return 200, self._registered(subject, -1 if version == "latest" else int(version) - 1)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _id(self, body: dict[str, Any]) -> int:
        if body not in self.schemas:
            self.schemas.append(body)
        return self.schemas.index(body) + 1

    def _registered(self, subject: str, place: int) -> dict[str, Any]:
        versions = self.subjects[subject]
        facts = {"subject": subject, "version": len(versions) if place < 0 else place + 1, "id": versions[place]}
        return self.schemas[versions[place] - 1] | facts


@contextmanager
def running(tls: Path | None = None) -> Iterator[tuple[str, Store]]:
    """Its URL, and what is in it. `tls` is a directory with ca.crt, tls.crt and tls.key."""
    store = Store()
    store.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def answer(self) -> None:
            store.reached.set()
            store.gate.wait(10)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            path = urlsplit(self.path).path
            # Confluent's client asks with `"references": []`, ours leaves out what is empty: it is the same schema.
            body = {name: value for name, value in body.items() if value and (name, value) != ("schemaType", "AVRO")}
            given = self.headers.get("Authorization", "")
            with store.lock:
                store.asked[f"{self.command} {path}"] += 1
                if store.user and given != "Basic " + base64.b64encode(store.user.encode()).decode():
                    status, said = 401, {"error_code": 401, "message": "Unauthorized"}
                elif store.refuses:
                    status, said = store.refuses.pop(0), {"error_code": 50001, "message": "Error in the backend"}
                else:
                    status, said = store.answer(self.command, [unquote(p) for p in path.strip("/").split("/")], body)
            data = store.garbage or json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}", store
    finally:
        store.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
