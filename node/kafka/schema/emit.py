"""Makes the Python of one API: a class for each struct, a reader for each request version, a writer for each response
version. The code is straight: fields of fixed length that follow each other are one call of a struct."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from node.kafka.schema.table import FIXED, Api, Field, Struct

NOTE = "made by `make kafka` from node/kafka/schema/table.txt; changes belong there."
_TYPES = {"bool": "bool", "float64": "float", "uuid": "bytes", "string": "str", "bytes": "bytes"}
_ALLOWANCE = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8, "float64": 8, "uuid": 16}


def module_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def module(api: Api) -> str:
    """The source of an API's module."""
    readers = _by_version(api, "read", lambda version: Reader(api, version).source())
    writers = _by_version(api, "write", lambda version: Writer(api, version).source())
    classes = [_class(struct) for struct in _structs(api)]
    body = "\n\n\n".join([*classes, *readers.functions, *writers.functions, readers.index, writers.index]) + "\n"
    formats = sorted(set(re.findall(r"\b_([bhHiqdUB]+)\.(?:pack|unpack_from)", body)))
    of_struct = [name for name, use in _STRUCT.items() if re.search(use, body)]
    of_wire = [name for name in _WIRE if re.search(rf"\b{name}\b", body)]
    head = [f'"""Kafka\'s {api.name}, {NOTE}"""', ""]
    head.append(f"from collections.abc import Callable{', Sequence' if 'Sequence[' in body else ''}")
    head += [f"from struct import {', '.join(of_struct)}"] if of_struct else []
    head += ["from typing import Final", "", f"from node.kafka.wire import {', '.join(of_wire)}", ""]
    head += [f'_{name} = Struct(">{name.replace("U", "16s").replace("B", "?")}")' for name in formats]
    return "\n".join(head) + "\n\n\n" + body


_STRUCT = {"Struct": r"\b_[bhHiqdUB]+\.(un)?pack", "pack": r"(?<!\.)\bpack\(", "unpack_from": r"(?<!\.)\bunpack_from\("}
_WIRE = (
    "ELEMENTS_MAX", "INT16", "INT32", "NO_ID", "Buffer", "Message", "compact_bytes", "compact_string", "long_bytes",
    "nullable_compact_bytes", "nullable_compact_string", "nullable_long_bytes", "nullable_string", "refuse_length",
    "skip_tags", "string", "tagged", "too_many", "uvarint", "write_uvarint",
)  # fmt: skip


@dataclass
class _Functions:
    functions: list[str]
    index: str


def _by_version(api: Api, verb: str, source: Callable[[int], str]) -> _Functions:
    """A function for each layout, and which version has which."""
    made: dict[str, str] = {}
    names = []
    for version in api.versions:
        text = source(version)
        name = made.setdefault(text, f"{verb}_{version}")
        names.append(name)
    functions = [text.replace("NAME", name, 1) for text, name in made.items()]
    pairs = ", ".join(f"{version}: {name}" for version, name in zip(api.versions, names, strict=True))
    return _Functions(functions, f"{verb.upper()}: Final = {{{pairs}}}")


def _structs(api: Api) -> Iterator[Struct]:
    """Every struct once, those that others are made of first."""
    seen = set()

    def walk(struct: Struct) -> Iterator[Struct]:
        if struct.name in seen:
            return
        seen.add(struct.name)
        for each in struct.fields:
            if each.struct is not None:
                yield from walk(each.struct)
        yield struct

    yield from walk(api.request)
    yield from walk(api.response)


def annotation(of: Field) -> str:
    plain = of.struct.name if of.struct else _TYPES.get(of.type, "int")
    plain = f"Sequence[{plain}]" if of.array else plain
    return f"{plain} | None" if of.null else plain


def default(of: Field) -> str | None:
    """The value of a field that a version does not have; None where a caller must name one."""
    if of.default == "null":
        return "None"
    if of.array:
        return "()"
    if of.struct is not None:
        return None if of.null is None else "None"
    if of.type == "string":
        return f'"{of.default or ""}"'
    if of.type == "bytes":
        return 'b""'
    if of.type == "uuid":
        return "NO_ID"
    if of.type == "bool":
        return "True" if of.default == "true" else "False"
    return str(int(of.default or "0", 0))


def _class(struct: Struct) -> str:
    names = [each.name for each in struct.fields]
    needed = [each for each in struct.fields if default(each) is None]
    optional = [each for each in struct.fields if default(each) is not None]
    slots = ", ".join(f'"{name}"' for name in names)
    lines = [f"class {struct.name}(Message):", f"    __slots__ = ({slots}{',' if len(names) == 1 else ''})", ""]
    lines.append("    def __init__(")
    lines.append("        self,")
    lines += [f"        {each.name}: {annotation(each)}," for each in needed]
    lines += [f"        {each.name}: {annotation(each)} = {default(each)}," for each in optional]
    lines.append("    ) -> None:")
    lines += [f"        self.{name} = {name}" for name in names]
    if not names:
        lines.append("        pass")
    return "\n".join(lines)


def least_bytes(struct: Struct, version: int, flexible: bool) -> int:
    """The least that one value of a struct takes on the wire: bounds how many of them a frame can hold."""
    total = 1 if flexible else 0
    for each in struct.untagged(version):
        if each.fixed:
            total += _ALLOWANCE[each.type]
        elif each.struct is not None and not each.array:
            total += 1 if each.null else least_bytes(each.struct, version, flexible)
        else:
            total += 1 if flexible else 2 if each.type == "string" and not each.array else 4
    return max(total, 1)


@dataclass
class _Emitter:
    api: Api
    version: int
    lines: list[str] = field(default_factory=list)
    numbers: int = 0

    @property
    def flexible(self) -> bool:
        return self.version >= self.api.flexible

    def fresh(self, name: str) -> str:
        self.numbers += 1
        return f"{name}_{self.numbers}"

    def emit(self, indent: int, *lines: str) -> None:
        self.lines += ["    " * indent + line for line in lines]


def _format(fields: list[Field]) -> str:
    return "".join(FIXED[each.type].replace("16s", "U").replace("?", "B") for each in fields)


class Reader(_Emitter):
    def source(self) -> str:
        made = self.struct(self.api.request, 1)
        head = f"def NAME(b: Buffer, p: int) -> tuple[{self.api.request.name}, int]:"
        ends = ["    end = len(b)"] if any(re.search(r"\bend\b", line) for line in self.lines) else []
        ends += ["    room = ELEMENTS_MAX"] if any("room -=" in line for line in self.lines) else []
        return "\n".join([head, *ends, *self.lines, f"    return {made}, p"])

    def struct(self, struct: Struct, indent: int) -> str:
        """Reads all fields and returns the expression that makes the struct."""
        values: dict[str, str] = {}
        run: list[Field] = []

        def flush() -> None:
            if run:
                names = [values[each.name] for each in run]
                size = sum(_ALLOWANCE[each.type] for each in run)
                targets = ", ".join(names) if len(names) > 1 else f"({names[0]},)"
                self.emit(indent, f"{targets} = _{_format(run)}.unpack_from(b, p)", f"p += {size}")
                run.clear()

        for each in struct.untagged(self.version):
            values[each.name] = self.fresh(each.name)
            if each.fixed:
                run.append(each)
                continue
            flush()
            self.value(each, values[each.name], indent)
        flush()
        if struct.tagged(self.version):
            raise ValueError(f"{struct.name}: a request with tagged fields is read by hand")
        if self.flexible:
            self.emit(indent, "p = skip_tags(b, p) if b[p] else p + 1")
        order = sorted(struct.fields, key=lambda each: default(each) is not None)
        return f"{struct.name}({', '.join(values.get(each.name, str(default(each))) for each in order)})"

    def length(self, of: Field, name: str, indent: int) -> None:
        if self.flexible:
            self.emit(indent, f"{name} = b[p] - 1", "p += 1", f"if {name} > 126:")
            self.emit(indent + 1, f"{name}, p = uvarint(b, p - 1)", f"{name} -= 1")
        else:
            wide = of.array or of.type != "string"
            self.emit(indent, f"({name},) = INT{32 if wide else 16}.unpack_from(b, p)", f"p += {4 if wide else 2}")

    def value(self, of: Field, target: str, indent: int) -> None:
        """A field of no fixed length, into a variable of its type."""
        if of.struct is not None and not of.array:
            self.nested(of, target, indent)
            return
        n = self.fresh("n")
        self.length(of, n, indent)
        if of.nullable(self.version):
            kind = annotation(of)
            self.emit(indent, f"{target}: {kind} = None", f"if {n} != -1:")
            indent += 1
        if of.array:
            self.elements(of, target, n, indent)
            return
        self.emit(indent, f"if {n} < 0 or p + {n} > end:")
        self.emit(indent + 1, f'raise refuse_length("{of.name}", {n})')
        make = 'str(b[p : p + {n}], "utf-8")' if of.type == "string" else "bytes(b[p : p + {n}])"
        self.emit(indent, f"{target} = {make.format(n=n)}", f"p += {n}")

    def nested(self, of: Field, target: str, indent: int) -> None:
        assert of.struct is not None
        if of.nullable(self.version):
            self.emit(indent, f"{target}: {annotation(of)} = None", "p += 1", "if b[p - 1] != 255:")
            indent += 1
        self.emit(indent, f"{target} = {self.struct(of.struct, indent)}")

    def elements(self, of: Field, target: str, n: str, indent: int) -> None:
        if of.struct is not None:
            least = least_bytes(of.struct, self.version, self.flexible)
        else:
            least = _ALLOWANCE.get(of.type, 1 if self.flexible else 2)
        self.emit(
            indent, f"if {n} < 0 or {n} > (end - p) // {least}:" if least > 1 else f"if {n} < 0 or {n} > end - p:"
        )
        self.emit(indent + 1, f'raise refuse_length("{of.name}", {n})')
        self.emit(indent, f"room -= {n}", "if room < 0:", f'    raise too_many("{of.name}")')
        if of.type in FIXED and of.type != "uuid":
            self.emit(indent, f'{target} = unpack_from(f">{{{n}}}{FIXED[of.type]}", b, p)', f"p += {n} * {least}")
            return
        made = self.fresh("made")
        kind = of.struct.name if of.struct else _TYPES[of.type]
        self.emit(indent, f"{made}: list[{kind}] = []", f"for _ in range({n}):")
        if of.struct is not None:
            self.emit(indent + 1, f"{made}.append({self.struct(of.struct, indent + 1)})")
        elif of.type == "uuid":
            self.emit(indent + 1, f"{made}.append(bytes(b[p : p + 16]))", "p += 16")
        else:
            each = self.fresh("each")
            self.value(Field(of.name, of.type, False, of.versions, None, None, None), each, indent + 1)
            self.emit(indent + 1, f"{made}.append({each})")
        self.emit(indent, f"{target} = {made}")


class Writer(_Emitter):
    def source(self) -> str:
        self.struct(self.api.response, "m", 1, "w")
        head = f"def NAME(m: {self.api.response.name}, w: Callable[[bytes], None]) -> None:"
        return "\n".join([head, *self.lines])

    def struct(self, struct: Struct, value: str, indent: int, w: str) -> None:
        run: list[Field] = []

        def flush() -> None:
            if run:
                values = ", ".join(f"{value}.{each.name}" for each in run)
                self.emit(indent, f"{w}(_{_format(run)}.pack({values}))")
                run.clear()

        for each in struct.untagged(self.version):
            if each.fixed:
                run.append(each)
                continue
            flush()
            self.value(each, f"{value}.{each.name}", indent, w)
        flush()
        if self.flexible:
            self.tags(struct, value, indent, w)

    def tags(self, struct: Struct, value: str, indent: int, w: str) -> None:
        found = struct.tagged(self.version)
        if not found:
            self.emit(indent, f'{w}(b"\\0")')
            return
        tags = self.fresh("tags")
        self.emit(indent, f"{tags}: list[tuple[int, bytes]] = []")
        for each in found:
            parts = self.fresh("parts")
            test = (
                f"{value}.{each.name}"
                if default(each) in ("()", "False", "0")
                else f"{value}.{each.name} != {default(each)}"
            )
            self.emit(indent, f"if {test}:")
            self.emit(indent + 1, f"{parts}: list[bytes] = []")
            if each.fixed:
                self.emit(indent + 1, f"{parts}.append(_{_format([each])}.pack({value}.{each.name}))")
            else:
                self.value(each, f"{value}.{each.name}", indent + 1, f"{parts}.append")
            self.emit(indent + 1, f'{tags}.append(({each.tag}, b"".join({parts})))')
        self.emit(indent, f"{w}(tagged({tags}))")

    def value(self, of: Field, value: str, indent: int, w: str) -> None:
        nullable = of.nullable(self.version)
        if of.array:
            self.elements(of, value, indent, w, nullable)
        elif of.struct is not None:
            if nullable:
                name = self.fresh("o")
                self.emit(
                    indent,
                    f"{name} = {value}",
                    f'{w}(b"\\xff" if {name} is None else b"\\1")',
                    f"if {name} is not None:",
                )
                self.struct(of.struct, name, indent + 1, w)
            else:
                self.struct(of.struct, value, indent, w)
        else:
            # A version without null gets what it can hold, as a message of one version is made for all.
            given = (
                value
                if nullable or of.null is None
                else f"{value} or {default(of) if of.default != 'null' else _EMPTY[of.type]}"
            )
            self.emit(indent, f"{w}({self.helper(of.type, nullable)}({given}))")

    def helper(self, type_: str, nullable: bool) -> str:
        plain = {"string": ("string", "compact_string"), "bytes": ("long_bytes", "compact_bytes")}
        name = plain[type_][self.flexible]
        return f"nullable_{name}" if nullable else name

    def elements(self, of: Field, value: str, indent: int, w: str, nullable: bool) -> None:
        a = self.fresh("a")
        self.emit(indent, f"{a} = {value}" + (" or ()" if of.null and not nullable else ""))
        if nullable:
            null = 'b"\\0"' if self.flexible else 'b"\\xff\\xff\\xff\\xff"'
            self.emit(indent, f"if {a} is None:")
            self.emit(indent + 1, f"{w}({null})")
            self.emit(indent, "else:")
            indent += 1
        self.emit(indent, f"{w}(write_uvarint(len({a}) + 1))" if self.flexible else f"{w}(INT32.pack(len({a})))")
        if of.type in FIXED and of.type != "uuid":
            self.emit(indent, f'{w}(pack(f">{{len({a})}}{FIXED[of.type]}", *{a}))')
            return
        each = self.fresh("o")
        self.emit(indent, f"for {each} in {a}:")
        if of.struct is not None:
            self.struct(of.struct, each, indent + 1, w)
        elif of.type == "uuid":
            self.emit(indent + 1, f"{w}({each})")
        else:
            self.emit(indent + 1, f"{w}({self.helper(of.type, False)}({each}))")


_EMPTY = {"string": '""', "bytes": 'b""'}
