"""What schema registries put before a value, and what is read behind it."""

import json

import orjson
import pytest

from tests.support.fakes import record
from worker.decode import Decoder
from worker.framing import readings
from worker.records import Document, Rejection

BODY = b'{"text": "hello", "id": 1.50}'
CONFLUENT = b"\0" + (17).to_bytes(4)
APICURIO = b"\0" + (17).to_bytes(8)
GLUE = b"\3\0" + bytes(range(100, 116))


def decode(value, form="json"):
    decoder = Decoder(format=form, text_field="text", id_field="id", max_bytes=1_000_000)
    return decoder.decode(record(value=value))


@pytest.mark.parametrize(
    "prefix", [CONFLUENT, b"\0\xff\xff\xff\xff", b"\0\0\0\0\0", APICURIO, GLUE]
)
@pytest.mark.parametrize("space", [b"", b" \n"])
def test_json_behind_a_prefix_is_read(prefix, space):
    document = decode(prefix + space + BODY)
    assert isinstance(document, Document), document
    assert (document.text, orjson.dumps(document.id)) == ("hello", b"1.50")
    assert document.record.value == prefix + space + BODY, "a dead letter would have it whole"


@pytest.mark.parametrize(
    ("prefix", "named"),
    [
        (CONFLUENT, "Confluent's (schema 17)"),
        (GLUE, "AWS Glue's"),
        (b"\3\5" + GLUE[2:], "compressed"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"\x0ahello\x02\x31",  # Avro: lengths and bytes
        b"\0\x0a\x05hello",  # Protobuf
        b"\x06\xff\xfe\xff",
        b"{\xff\x80",
        b'{"text": "cut',
    ],
)
def test_what_is_no_json_behind_a_prefix_is_told_by_name(prefix, named, body):
    rejection = decode(prefix + body)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "invalid_json"
    assert named in rejection.message
    assert "Avro" in rejection.message
    assert "hello" not in rejection.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"[]", "not_an_object"), (b"{}", "missing_text"), (b'{"text": 1}', "text_not_string"),
     (b"[" * 100_000, "nested_too_deep"), (b'{"text": " "}', "empty_text")],
)  # fmt: skip
def test_json_behind_a_prefix_has_the_reasons_of_any_other(body, reason):
    assert decode(CONFLUENT + body).reason == reason


@pytest.mark.parametrize(
    "value", [b"", b"\0", b"\0\0\0\0\0", b"\3", BODY, b"\1" + BODY, b"\xff\xfe"]
)
def test_what_has_no_prefix_is_left_as_it_is(value):
    assert readings(value) == [(value, None)]


@pytest.mark.parametrize("fifth", [*b'{["tfn-0123456789 \t\r\n', 0, 1, 128, 255])
@pytest.mark.parametrize("rest", [b"\0\0\1", b"{{{", b'"x"', b"   ", b"00,"])
def test_json_behind_apicurios_prefix_is_read_whatever_its_id_is(fifth, rest):
    prefix = b"\0\0\0\0\0" + bytes([fifth]) + rest
    for body in (BODY, rb'{"text": "hello", "id": 1.50, "other": "\ud800"}'):
        document = decode(prefix + body)
        assert isinstance(document, Document), document
        assert (document.text, orjson.dumps(document.id)) == ("hello", b"1.50")


@pytest.mark.parametrize("body", [b'{"":{"text":1},"text":"hello"}', b'{"":{},"text":"hello"}'])
def test_json_behind_confluents_prefix_is_read_though_its_fifth_byte_may_begin_json_too(body):
    assert body[4:5] == b"{"
    assert decode(CONFLUENT + body).text == "hello"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"[]", "not_an_object"), (b"12", "not_an_object"), (b"{}", "missing_text"),
     (b"[" * 100_000, "nested_too_deep"), (b'{"text": 1}', "text_not_string"),
     (b'{"text": "cut', "invalid_json"), (b'{"text": "caf\xe9"}', "invalid_json")],
)  # fmt: skip
@pytest.mark.parametrize("fifth", [b"{", b"[", b'"', b"7", b"\x11"])
def test_the_reason_is_that_of_the_reading_which_is_json(fifth, body, reason):
    rejection = decode(b"\0\0\0\0\0" + fifth + b"\0\0\1" + body)
    assert rejection.reason == reason
    if reason == "invalid_json":
        assert (
            f"Apicurio's (schema {int.from_bytes(fifth + bytes([0, 0, 1]))})" in rejection.message
        )


def test_a_plain_text_is_never_taken_for_one():
    assert decode(CONFLUENT + b"hello", form="text").text == (CONFLUENT + b"hello").decode()


def test_no_json_begins_like_a_prefix():
    for value in (None, True, 0, -1, "x", [], {}):
        spelled = json.dumps(value).encode() + b" " * 20
        assert readings(spelled) == [(spelled, None)]
