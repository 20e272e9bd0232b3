"""Requests and answers as plain values, by the table of Kafka's messages and by nothing else of the product.

The table itself is held against kafka-python's and kio's by tests/node/kafka/test_schema.py. What an answer has too
much or too little of is told in the value, since it is a difference, too.
"""

import itertools
import socket
import struct
from typing import Any, Final

from node.kafka.schema.table import FIXED, Field, Struct, load

APIS: Final = {api.name: api for api in load()}
Tree = dict[str, Any]


class Closed(Exception):
    """The broker ended the connection."""


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _default(field: Field) -> Any:
    if field.default is not None:
        text = field.default
        return {"null": None, "true": True, "false": False}[text] if text in ("null", "true", "false") else int(text, 0)
    if field.array:
        return []
    return {"string": "", "bytes": b"", "records": b"", "uuid": bytes(16)}.get(field.type, {} if field.struct else 0)


def _names(of: Struct) -> set[str]:
    return {field.name for field in of.fields}


def _write_length(count: int | None, flexible: bool, form: str) -> bytes:
    if flexible:
        return _uvarint(0 if count is None else count + 1)
    return struct.pack(form, -1 if count is None else count)


def _write_one(field: Field, value: Any, version: int, flexible: bool) -> bytes:
    if field.struct is not None:
        if field.array or not field.nullable(version):
            return write(field.struct, value, version, flexible)
        return b"\xff" if value is None else b"\x01" + write(field.struct, value, version, flexible)
    if field.type in FIXED:
        return struct.pack(">" + FIXED[field.type], value)
    data = value.encode() if isinstance(value, str) else value
    return _write_length(None if data is None else len(data), flexible, ">h" if field.type == "string" else ">i") + (
        data or b""
    )


def _write_field(field: Field, value: Any, version: int, flexible: bool) -> bytes:
    if not field.array:
        return _write_one(field, value, version, flexible)
    head = _write_length(None if value is None else len(value), flexible, ">i")
    return head + b"".join(_write_one(field, each, version, flexible) for each in value or ())


def write(of: Struct, tree: Tree, version: int, flexible: bool) -> bytes:
    """Fields that this version lacks are left out; a name that no version has is a mistake of the exchange."""
    if unknown := set(tree) - _names(of):
        raise KeyError(f"{of.name} has no {unknown}")
    out = [
        _write_field(field, tree.get(field.name, _default(field)), version, flexible) for field in of.untagged(version)
    ]
    if flexible:
        tagged = [field for field in of.tagged(version) if field.name in tree]
        out.append(_uvarint(len(tagged)))
        for field in tagged:
            data = _write_field(field, tree[field.name], version, True)
            out += [_uvarint(field.tag or 0), _uvarint(len(data)), data]
    return b"".join(out)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"wants {size} bytes at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def length(self, flexible: bool, form: str) -> int:
        return self.uvarint() - 1 if flexible else int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def skip_tags(self) -> None:
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())

    def one(self, field: Field, version: int, flexible: bool) -> Any:
        if field.struct is not None:
            if not field.array and field.nullable(version) and self.take(1) == b"\xff":
                return None
            return self.tree(field.struct, version, flexible)
        if field.type in FIXED:
            form = ">" + FIXED[field.type]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        size = self.length(flexible, ">h" if field.type == "string" else ">i")
        if size < 0:
            return None
        return self.take(size).decode() if field.type == "string" else self.take(size)

    def field(self, field: Field, version: int, flexible: bool) -> Any:
        if not field.array:
            return self.one(field, version, flexible)
        count = self.length(flexible, ">i")
        if count > len(self.data):
            raise ValueError(f"{count} elements of {field.name}")
        return None if count < 0 else [self.one(field, version, flexible) for _ in range(count)]

    def tree(self, of: Struct, version: int, flexible: bool) -> Tree:
        found = {field.name: self.field(field, version, flexible) for field in of.untagged(version)}
        if not flexible:
            return found
        tagged = {field.tag: field for field in of.tagged(version)}
        found |= {field.name: _default(field) for field in tagged.values()}
        for _ in range(self.uvarint()):
            tag, size = self.uvarint(), self.uvarint()
            end = self.at + size
            if tag in tagged:
                found[tagged[tag].name] = self.field(tagged[tag], version, True)
            if tag not in tagged or self.at != end:
                found["unknown tag or length"] = tag
            self.at = end
        return found


def read_answer(name: str, version: int, data: bytes) -> Tree:
    """The body after the correlation id."""
    api, reader = APIS[name], Reader(data)
    flexible = version >= api.flexible
    try:
        if flexible and name != "ApiVersions":
            reader.skip_tags()
        found = reader.tree(api.response, version, flexible)
    except ValueError as error:
        return {"unreadable": str(error)}
    if reader.at != len(data):
        found["too many bytes"] = len(data) - reader.at
    return found


class Connection:
    """Blocking; requests may be sent ahead and their answers read later, in their order."""

    def __init__(self, address: tuple[str, int], seconds: float = 20.0) -> None:
        self.socket = socket.create_connection(address, seconds)
        self.numbers = itertools.count(1)
        self.waiting: list[tuple[int, str, int]] = []

    def send(self, name: str, version: int, body: Tree, *, answered: bool = True) -> None:
        api, number = APIS[name], next(self.numbers)
        flexible = version >= api.flexible
        head = struct.pack(">hhih", api.key, version, number, 4) + b"peer" + (b"\0" if flexible else b"")
        self.send_frame(head + write(api.request, body, version, flexible))
        if answered:
            self.waiting.append((number, name, version))

    def send_frame(self, data: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(data)) + data)

    def receive(self) -> Tree:
        """The answer to the request that waits for the longest."""
        data = self.receive_frame()
        number, name, version = self.waiting.pop(0)
        found = struct.unpack(">i", data[:4])[0]
        return read_answer(name, version, data[4:]) if found == number else {"answer out of order": found - number}

    def receive_frame(self) -> bytes:
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionError as error:
                raise Closed from error
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def close(self) -> None:
        self.socket.close()
