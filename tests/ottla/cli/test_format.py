"""What `ottla consume` prints for a record."""

import json
from dataclasses import dataclass

import pytest

from ottla.cli.failure import Failure, as_text
from ottla.cli.format import json_line, line_maker, unescaped
from ottla.cli.output import print_table


@dataclass(frozen=True)
class Sample:
    topic: str = "flights"
    partition: int = 2
    offset: int = 17
    timestamp: int = 1_357_034_400_123
    key: bytes | None = b"UA1545"
    value: bytes | None = b"\xff\x00 raw"
    headers: tuple[tuple[str, bytes | None], ...] = (("a", b"1"), ("a", None))


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{value}", b"\xff\x00 raw\n"),
        ("{partition}/{offset}\\t{key}={value}", b"2/17\tUA1545=\xff\x00 raw\n"),
        ("{time} {timestamp_ms}", b"2013-01-01T10:00:00.123Z 1357034400123\n"),
        ("{topic} {headers}", b"flights a=1,a=null\n"),
        ("{{{key}}}", b"{UA1545}\n"),
        ("", b"\n"),
        ("{value:hex} {value:size} {key:base64}", b"ff0020726177 6 VUExNTQ1\n"),
        ("{key:json}\\x41\\0\\\\n", b'"UA1545"A\0\\n\n'),
        ("{time:%H:%M:%S}", b"10:00:00\n"),
        ("{header:a} {header:b}", b"null null\n"),
    ],
)
def test_template(template: str, line: bytes) -> None:
    assert line_maker(template)(Sample()) == line


JSON = b'{"user": {"name": "ana", "tags": ["x", {"a.b": 1.5}]}, "none": null, "yes": true}'


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (".user.name", b"ana"),
        (".user.tags[0]", b"x"),
        (".user.tags[-1]", b'{"a.b":1.5}'),
        ('.user.tags[1]["a.b"]', b"1.5"),
        (".yes", b"true"),
        (".none", b"null"),
        (".user.name.first", b"null"),
        (".user.name[0]", b"null"),
        (".user.tags[7]", b"null"),
        (".user.tags", b'["x",{"a.b":1.5}]'),
    ],
)
def test_places_in_json(path: str, shown: bytes) -> None:
    assert line_maker(f"{{value:{path}}}")(Sample(value=JSON)) == shown + b"\n"


def test_what_is_no_json_has_no_places() -> None:
    assert line_maker("{value:.a} {key:.}")(Sample(value=b"\xff", key=b'"k"')) == b"null k\n"


def test_headers_by_name() -> None:
    record = Sample(headers=(("id", b"1"), ("id", b"\x02"), ("a:b", b"3")))
    assert line_maker("{header:id:hex} {header:a:b} {header:id:size}")(record) == b"02 3 1\n"


@pytest.mark.parametrize("delimiter", ["\\0", "", " | ", "\\x00\\n"])
def test_what_stands_behind_each_record(delimiter: str) -> None:
    assert line_maker("{key}", delimiter=delimiter)(Sample()) == b"UA1545" + unescaped(delimiter)


def test_null_is_shown_as_null() -> None:
    assert line_maker("{key}:{value}")(Sample(key=None, value=None)) == b"null:null\n"


def test_a_time_beyond_the_calendar_stays_a_number() -> None:
    assert line_maker("{time}")(Sample(timestamp=2**62)) == b"%d\n" % 2**62


@pytest.mark.parametrize(
    "template",
    [
        "{nope}",
        "{value:>10}",
        "{value!r}",
        "{",
        "}",
        "{}",
        "{0}",
        "{value.x}",
        "{value:[}",
        "{value:.a[x]}",
        "{offset:hex}",
        "{header}",
    ],
)
def test_a_wrong_template_is_refused_with_the_fields_there_are(template: str) -> None:
    with pytest.raises(Failure) as failed:
        line_maker(template)
    assert failed.value.code == "INVALID_FORMAT"
    assert "{value}" in failed.value.next_step


def test_json_tells_null_from_empty_and_text_from_bytes() -> None:
    shown = json.loads(json_line(Sample(key=None)))
    assert shown == {
        "topic": "flights",
        "partition": 2,
        "offset": 17,
        "timestamp_ms": 1_357_034_400_123,
        "key": None,
        "value_base64": "/wAgcmF3",
        "headers": [{"key": "a", "value": "1"}, {"key": "a", "value": None}],
    }
    assert json.loads(json_line(Sample(key=b"", value="ž".encode())))["value"] == "ž"
    assert json.loads(json_line(Sample(key=b"")))["key"] == ""


STEERS = "\x1b]0;title\x07\x1b[2J\r\x9b31m\u202e"


@pytest.mark.parametrize("field", ["key", "value", "headers"])
def test_records_cannot_steer_a_terminal(field: str) -> None:
    record = Sample(
        key=STEERS.encode(), value=b"line\n\ttab " + STEERS.encode() + b"\xff", headers=((STEERS, b"\x1b[5m"),)
    )
    line = line_maker(f"{{{field}}}", for_terminal=True)(record).decode()
    assert [c for c in line if not c.isprintable() and c not in "\n\t"] == []
    assert "\\x1b" in line
    whole = json_line(record, for_terminal=True)
    assert whole[:-1].isascii()
    assert whole[:-1].decode().isprintable()


def test_elsewhere_bytes_pass_unchanged() -> None:
    value = STEERS.encode() + b"\xff"
    assert line_maker("{value}")(Sample(value=value)) == value + b"\n"


def test_tables_and_errors_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [(STEERS,)])
    print(as_text(Failure("CODE", STEERS, "next")))
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
