"""Record bytes: a document with its id as it came, or one reason of the wire contract."""

import json

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.fakes import record
from worker.decode import Decoder, path_of
from worker.errors import REASONS
from worker.records import Document, Rejection, Tombstone

MAX_BYTES = 262_144
DECODED_REASONS = set(REASONS) - {"model_failed", "output_too_large", "output_refused"}

REJECTED = {
    "invalid_utf8": [
        b"\xff",
        b'{"text": "caf\xe9"}',
        b'{"text": "hello", "note": "\xc3"}',
        b'{"text": "\xed\xa0\x80"}',  # a surrogate, encoded
        b'{"text": "\xc0\xaf"}',  # overlong
        b'{"text": "\xf5\x80\x80\x80"}',  # beyond Unicode
        '{"text": "hello"}'.encode("utf-16"),
    ],
    "invalid_json": [
        b"",
        b" \n",
        b"hello",
        b'{"text": "hello"',
        b'{"text": "hello"} {}',
        b"{'text': 'hello'}",
        b'{"text": "hello",}',
        b'{"text": "hello", "n": 01}',
        b'{"text": "hello", "n": NaN}',
        b'{"text": "hello", "id": Infinity}',
        b'{"text": "hello", "n": [-Infinity]}',
        b'{"text": NaN}',
        b'{"text": "a\nb"}',
        b'{"text": "a\\x"}',
        b'\xef\xbb\xbf{"text": "hello"}',
    ],
    "not_an_object": [b"null", b"[]", b'[{"text": "hello"}]', b'"hello"', b"12", b"1.5", b"true"],
    "nested_too_deep": [
        b"[" * 100_000,
        b'{"text": "hello", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        b'{"text": "hello", "id": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"text": "hello", "id": ' + b"[" * 900 + b"1.5" + b"]" * 900 + b"}",
    ],
    "missing_text": [b"{}", b'{"Text": "hello"}', b'{"data": {"text": "hello"}}', b'{"": "hello"}'],
    "text_not_string": [
        b'{"text": null}',
        b'{"text": 5}',
        b'{"text": 1.5}',
        b'{"text": true}',
        b'{"text": ["hello"]}',
        b'{"text": {"text": "hello"}}',
    ],
    "invalid_unicode": [
        rb'{"text": "\ud800"}',
        rb'{"text": "hello \udfff"}',
        rb'{"text": "\ude00\ud83d"}',  # a pair the wrong way round
        rb'{"text": "hello", "id": "\ud800"}',
        rb'{"text": "hello", "id": ["\ud800"]}',
        rb'{"text": "hello", "id": {"\ud800": 1}}',
    ],
    "empty_text": [
        b'{"text": ""}',
        b'{"text": "   "}',
        rb'{"text": "\t\r\n"}',
        '{"text": "\u00a0\u2003\u3000"}'.encode(),
    ],
    "input_too_large": [
        b" " * (MAX_BYTES + 1),
        b'{"text": "' + b"x" * MAX_BYTES + b'"}',
        b"\xff" * (MAX_BYTES + 1),
    ],
}


def decode(value, *, form="json", text_field="text", id_field="id", max_bytes=MAX_BYTES):
    decoder = Decoder(format=form, text_field=text_field, id_field=id_field, max_bytes=max_bytes)
    return decoder.decode(record(value=value))


def echoed(document):
    """The id as it will stand in the output."""
    assert isinstance(document, Document), document
    return orjson.dumps(document.id)


def test_every_reason_that_decoding_can_have_is_shown_here():
    assert set(REJECTED) == DECODED_REASONS


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        pytest.param(reason, value, id=f"{reason}-{number}")
        for reason, values in REJECTED.items()
        for number, value in enumerate(values)
    ],
)
def test_a_bad_value_is_rejected_for_its_reason(reason, value):
    rejection = decode(value)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert rejection.record.value is value
    assert rejection.message
    assert "\n" not in rejection.message


def test_a_null_value_is_a_tombstone_and_an_empty_one_is_not():
    assert isinstance(decode(None), Tombstone)
    assert isinstance(decode(None, form="text"), Tombstone)
    assert decode(b"").reason == "invalid_json"
    assert decode(b"", form="text").reason == "empty_text"


def test_the_size_limit_is_the_last_size_that_passes():
    value = b'{"text": "hello"}'
    assert isinstance(decode(value, max_bytes=len(value)), Document)
    assert decode(value, max_bytes=len(value) - 1).reason == "input_too_large"
    assert isinstance(decode(b"hello", form="text", max_bytes=5), Document)
    assert decode(b"hello", form="text", max_bytes=4).reason == "input_too_large"


@pytest.mark.parametrize(
    "value",
    [
        b'{"text": "hello", "n": %s}',
        b'{"text": "hello", "n": -%s}',
        b'{"text": "hello", "n": [{"m": %s}]}',
        rb'{"text": "hello", "n": "\ud800", "m": %s}',
    ],
)
@pytest.mark.parametrize("digits", [999, 4_301, 5_000, 200_000])
def test_a_number_that_nobody_reads_may_have_any_number_of_digits(value, digits):
    document = decode(value.replace(b"%s", b"9" * digits))
    assert isinstance(document, Document), document
    assert (document.text, document.id) == ("hello", None)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("text", ["text"]),
        ("data.text", ["data", "text"]),
        (r"data\.text", ["data.text"]),
        (r"a\.b.c\.d", ["a.b", "c.d"]),
        (r"a\\.b", ["a\\", "b"]),
        (r"a\b", [r"a\b"]),
        ("a..b", ["a", "", "b"]),
        (".", ["", ""]),
        ("a\\", ["a\\"]),
        ("\n.\u00e9", ["\n", "\u00e9"]),
    ],
)
def test_a_path_names_fields_with_dots_between_them_and_in_them(field, names):
    assert path_of(field) == names


def test_a_field_whose_name_has_a_dot_is_found():
    value = b'{"user.text": "hello", "meta": {"a.id": 1.50}, "user": {"text": "other"}}'
    document = decode(value, text_field=r"user\.text", id_field=r"meta.a\.id")
    assert document.text == "hello"
    assert echoed(document) == b"1.50"
    assert decode(value, text_field="user.text").text == "other"
    assert r"'no\\.text'" in decode(value, text_field=r"no\.text").message


@pytest.mark.parametrize("digits", [999, 4_301, 50_000])
def test_an_id_may_have_any_number_of_digits(digits):
    assert echoed(decode(b'{"text": "hello", "id": %s}' % (b"9" * digits))) == b"9" * digits


def test_a_text_that_is_a_number_of_many_digits_is_still_no_text():
    assert decode(b'{"text": %s}' % (b"9" * 5_000)).reason == "text_not_string"


def test_a_value_that_is_too_large_is_not_even_parsed():
    assert decode(b"\xff" * 9, max_bytes=8).reason == "input_too_large"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'{"text": "hello"}', "hello"),
        (b' \n{"text":"hello"}\t', "hello"),
        (b'{"text": "  hello "}', "  hello "),
        (b'{"text": "first", "text": "last"}', "last"),
        ('{"text": "caf\u00e9 \u2764\ufe0f"}'.encode(), "caf\u00e9 \u2764\ufe0f"),
        (rb'{"text": "\ud83d\ude00"}', "\U0001f600"),
        (rb'{"text": "a\u0000b"}', "a\0b"),
        (b'{"text": "hello", "n": 1e400}', "hello"),
        (b'{"text": "hello", "n": -1e-400}', "hello"),
        (b'{"text": "hello", "n": ' + b"9" * 400 + b"}", "hello"),
        (rb'{"text": "hello", "other": "\ud800"}', "hello"),
        (b'{"text": "hello", "deep": ' + b"[" * 200 + b"]" * 200 + b"}", "hello"),
    ],
)
def test_the_text_is_taken_as_it_stands(value, text):
    document = decode(value)
    assert isinstance(document, Document)
    assert document.text == text


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (b'{"data": {"user": {"text": "hello"}}}', "hello"),
        (b'{"data": {"user": {"text": 1}}}', "text_not_string"),
        (b'{"data": {"user": {}}}', "missing_text"),
        (b'{"data": {"user": "text"}}', "missing_text"),
        (b'{"data": {"user": null}}', "missing_text"),
        (b'{"data": [{"user": {"text": "hello"}}]}', "missing_text"),
        (b'{"data.user.text": "hello"}', "missing_text"),
        (b'{"text": "hello"}', "missing_text"),
    ],
)
def test_a_path_leads_through_objects_only(value, outcome):
    found = decode(value, text_field="data.user.text")
    assert (found.text if isinstance(found, Document) else found.reason) == outcome


def test_the_message_names_the_path_that_leads_nowhere():
    assert "'data.user.text'" in decode(b"{}", text_field="data.user.text").message


@pytest.mark.parametrize(
    "spelling",
    [
        '"1729"',
        '""',
        '"\\"\\\\"',
        '"caf\u00e9 \U0001f600"',
        "1729",
        "-5",
        "0",
        "18446744073709551615",
        "18446744073709551616",
        "-123456789012345678901234567890",
        "1.10",
        "-0.0",
        "1e5",
        "1E+400",
        "0.1000000000000000055511151231257827",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        '[1.10,"a",null,[18446744073709551616]]',
        '{"b":1.0,"a":{"c":[1e5,"\u00e9"]}}',
    ],
)
@pytest.mark.parametrize("beside", ["", r', "other": "\udfff"'])
def test_the_id_comes_back_exactly_as_it_was_spelled(spelling, beside):
    # A lone surrogate elsewhere takes the way through the second parser.
    value = f'{{"id": {spelling}, "text": "hello"{beside}}}'
    assert echoed(decode(value.encode())) == spelling.encode()


def test_a_missing_id_is_null():
    assert echoed(decode(b'{"text": "hello"}')) == b"null"
    assert echoed(decode(b'{"text": "hello", "meta": 5}', id_field="meta.id")) == b"null"


def test_a_nested_id_is_found():
    value = b'{"text": "hello", "meta": {"id": {"n": 2.50}}}'
    assert echoed(decode(value, id_field="meta.id")) == b'{"n":2.50}'
    assert echoed(decode(value, id_field="meta.id.n")) == b"2.50"


def test_of_an_id_given_twice_the_last_counts():
    assert echoed(decode(b'{"id": 1.5, "text": "hello", "id": 2.50}')) == b"2.50"
    assert echoed(decode(b'{"id": 1.5, "text": "hello", "id": 3}')) == b"3"


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (b"hello", "hello"),
        (b' {"text": 5}', ' {"text": 5}'),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (b"a\0b", "a\0b"),
        (b"\xff", "invalid_utf8"),
        (b"caf\xe9", "invalid_utf8"),
        (b"\xed\xa0\x80", "invalid_utf8"),
        (b"", "empty_text"),
        (b" \t\r\n", "empty_text"),
        ("\u2003".encode(), "empty_text"),
    ],
)
def test_in_text_format_the_value_is_the_text(value, outcome):
    found = decode(value, form="text")
    assert (found.text if isinstance(found, Document) else found.reason) == outcome
    if isinstance(found, Document):
        assert found.id is None


def test_the_place_of_bad_bytes_is_told():
    assert "byte 3 " in decode(b"caf\xe9", form="text").message


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),  # lone surrogates among them
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    value=st.binary()
    | st.text().map(str.encode)
    | JSON_VALUES.map(lambda v: json.dumps(v).encode())
)
@example(value=rb'{"text":"hi","id":123456789012345678901234567890,"x":"\ud800"}')
def test_any_bytes_become_exactly_one_of_document_and_rejection(value):
    for form in ("json", "text"):
        outcome = decode(value, form=form)
        assert type(outcome) in (Document, Rejection)
        assert outcome.record.value is value
        if isinstance(outcome, Rejection):
            assert outcome.reason in DECODED_REASONS
        else:
            assert outcome.text.strip()
            outcome.text.encode()
            orjson.dumps(outcome.id)


@given(text=TEXTS, rest=st.dictionaries(st.text(), JSON_VALUES, max_size=4), plain=st.booleans())
def test_any_object_with_a_text_is_a_document_with_that_text(text, rest, plain):
    rest.pop("id", None)  # its surrogates are refused, and are tested above
    value = json.dumps({**rest, "text": text}, ensure_ascii=plain)
    document = decode(value.encode(errors="surrogatepass"))
    if not plain and _has_surrogate(value):
        assert document.reason == "invalid_utf8"
        return
    assert isinstance(document, Document)
    assert document.text == text


@given(identity=JSON_VALUES)
def test_any_id_is_echoed_as_the_value_that_it_is(identity):
    value = json.dumps({"text": "hello", "id": identity})
    outcome = decode(value.encode())
    if _has_surrogate(json.dumps(identity, ensure_ascii=False)):
        assert outcome.reason == "invalid_unicode"
    else:
        assert orjson.loads(echoed(outcome)) == orjson.loads(json.dumps(identity))


@settings(max_examples=20)
@given(secret=st.text(st.characters(codec="ascii", categories=["L"]), min_size=12, max_size=40))
@pytest.mark.parametrize(
    "broken",
    [
        '{{"text": "{0}"',
        '{{"text": "{0}\n"}}',
        '{{"text": "\\x{0}"}}',
        '{{"text": {0}}}',
        '{{"text": ["{0}"]}}',
        '{{"text": "{0}\\ud800"}}',
        '{{"{0}": "{0}"}}',
        '["{0}"]',
        '"{0}"',
        "{0}",
        '{{"text": "hello", "id": "{0}\\ud800"}}',
        '{{"text": "hello", "id": ["{0}\\ud800"]}}',
        '{{"text": "{0}", "n": NaN}}',
    ],
)
def test_the_message_never_holds_the_records_text(broken, secret):
    rejection = decode(broken.format(secret).encode())
    assert isinstance(rejection, Rejection)
    assert secret not in rejection.message


def _has_surrogate(text):
    return any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize("identity", ["1.5", "0", '{"a": %s}', "[[[[[[%s]]]]]]"])
@pytest.mark.parametrize("other", ["[[[[[[%s]]]]]]", "%s", '{"a": {"a": {"a": {"a": [%s]}}}}'])
def test_numbers_of_any_length_at_any_depth_beside_an_id_or_in_it(identity, other):
    digits = "9" * 5_000
    identity, other = (each.replace("%s", digits) for each in (identity, other))
    value = f'{{"text": "hi", "id": {identity}, "n": {other}}}'.encode()
    found = decode(value)
    assert isinstance(found, Document), found
    assert orjson.dumps(found.id).decode() == identity.replace(" ", "")
