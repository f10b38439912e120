"""A value is cut out of a JSON text as the parsers understand it, and in about their time."""

import gc
import json
import time

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.fakes import record
from worker.decode import Decoder
from worker.records import Document
from worker.spelled import compact, cut_out

SIZE = 262_144


def exact(text, path):
    found = orjson.loads(text)
    for name in path:
        found = found[name]
    return bytes(orjson.dumps(compact(cut_out(text, path), found))).decode()


def by_the_standard_library(text, path):
    """The whole text parsed again with every number as it is spelled: slow, and the measure."""
    found = json.loads(text, parse_int=orjson.Fragment, parse_float=orjson.Fragment)
    for name in path:
        found = found[name]
    return orjson.dumps(found).decode()


NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?\Z")
SPACES = st.text(" \t\n\r", max_size=2)
NAMES = st.sampled_from(["a", "b", "", 'q"', "\\", "\u00e9", "\U0001f600", "a.b", "\0"])


WORDS = NAMES | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@st.composite
def strings(draw, values=WORDS):
    value = draw(values)
    if draw(st.booleans()):
        return "".join(
            f"\\u{ord(each):04x}" if ord(each) < 0x10000 else json.dumps(each)[1:-1]
            for each in value
        ).join('""')
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def arrays(draw, inner):
    gap, items = draw(SPACES), draw(st.lists(inner, max_size=4))
    return f"[{gap}" + f"{gap},".join(items) + f"{gap}]"


@st.composite
def objects(draw, inner):
    gap = draw(SPACES)
    members = draw(st.lists(st.tuples(strings(NAMES), inner), max_size=5))
    return "{" + gap + f",{gap}".join(f"{k}{gap}:{gap}{v}{gap}" for k, v in members) + "}"


VALUES = st.recursive(
    NUMBERS | strings() | st.sampled_from(["true", "false", "null", "[]", "{}"]),
    lambda inner: arrays(inner) | objects(inner),
    max_leaves=20,
)


@settings(max_examples=50)
@given(text=objects(VALUES))
@example(text='{"a":[[[[[[[[1.50]]]]]]],2.50],"a" :\t[[[[[[[[ 1.10 ]]]]]]]] ,"b":1}')
@example(text=r'{"a":{"b":1.0},"\u0061":{"b":2.0,"\u0062" : 3.00}, "a\\":4.0}')
@example(text=r'{"q\"":1.0,"a":"\\\"","b":"\\"}')
@example(text='{"a":{"a":1.0},"b":{"a":2.0}, "a":-0}')
@example(text='{"a":18446744073709551616,"b":[18446744073709551616,-0,"-0"]}')
def test_a_value_is_that_of_the_standard_library_with_every_number_as_it_is_spelled(text):
    data = json.loads(text)
    for name, value in data.items():
        assert exact(text, [name]) == by_the_standard_library(text, [name])
        for inner in value if isinstance(value, dict) else ():
            path = [name, inner]
            assert exact(text, path) == by_the_standard_library(text, path)


@settings(max_examples=50)
@given(text=objects(VALUES), identity=VALUES)
def test_the_id_of_a_record_is_that_of_the_standard_library(text, identity):
    rest = text[1:-1].strip()
    value = f'{{{rest}{"," if rest else ""}"id":{identity},"text":"hello"}}'
    decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=SIZE)
    found = decoder.decode(record(value=value.encode()))
    assert isinstance(found, Document)
    assert orjson.dumps(found.id).decode() == by_the_standard_library(value, ["id"])


def filled(unit, head, tail):
    many = (SIZE - len(head) - len(tail)) // len(unit) - 1
    return f"{head}{(unit * many).rstrip(',')}{tail}".encode()


@pytest.mark.parametrize(
    "value",
    [
        filled("0,", '{"text":"hi","id":[', "]}"),
        filled("0,", '{"text":"hi","id":1.5,"other":[', "]}"),
        filled("1e1,", '{"text":"hi","id":1.5,"other":[', "]}"),
    ],
    ids=["an id of many numbers", "beside integers", "beside floats"],
)
def test_an_id_to_be_spelled_takes_about_as_long_as_the_first_parse(value):
    """Before, it took 20 to 90 times as long: up to 102 ms for 256 KiB."""
    decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=SIZE)
    plain = min(seconds(lambda: orjson.loads(value)) for _ in range(5))
    whole = min(seconds(lambda: decoder.decode(record(value=value))) for _ in range(5))
    assert whole < 10 * plain


@pytest.mark.parametrize("filler", ["0,", '"xx",', '{"a":1},', "[[[[[[0]]]]]],"])
def test_an_id_below_many_names_takes_as_long_as_one_below_none(filler):
    """Before, each name took as long as the first: 0.5 to 1 s for 256 KiB below 200."""
    fill = f"[{(filler * (SIZE // len(filler) // 2)).rstrip(',')}]"

    def decoding(names):
        value = '{"text":"hi","a":' + '{"a":' * (names - 1) + f'1.50,"z":{fill}' + "}" * names
        path = ".".join("a" * names)
        decoder = Decoder(format="json", text_field="text", id_field=path, max_bytes=SIZE)
        found = decoder.decode(record(value=value.encode()))
        assert isinstance(found, Document), found
        assert orjson.dumps(found.id) == b"1.50"
        return min(seconds(lambda: decoder.decode(found.record)) for _ in range(5))

    assert decoding(200) < 4 * decoding(1) + 0.002


def test_an_id_below_more_names_than_python_calls_deep_is_found():
    value = '{"a":' * 1_000 + "1.50" + "}" * 1_000
    assert cut_out(value, ["a"] * 1_000) == "1.50"


@pytest.mark.slow
@settings(max_examples=20)
@given(text=objects(VALUES), names=st.lists(NAMES, min_size=2, max_size=4), data=st.data())
def test_a_value_at_the_end_of_a_long_path_is_the_last_that_the_path_leads_to(text, names, data):
    for name in reversed(names):
        before, after = data.draw(objects(VALUES)), data.draw(objects(VALUES))
        members = [before.strip()[1:-1].strip(), f"{json.dumps(name)} : {text}"]
        later = data.draw(st.sampled_from([[], [after.strip()[1:-1].strip()]]))
        text = "{" + ",".join(member for member in members + later if member) + "}"
    found = json.loads(text)
    for used, name in enumerate(names):
        if not isinstance(found, dict) or name not in found:
            return
        found = found[name]
        path = names[: used + 1]
        assert exact(text, path) == by_the_standard_library(text, path)


def seconds(call):
    """Of this thread alone, and without a garbage collection: that takes as long as all the objects
    are many that the tests before left, up to 0.3 s, and comes every second call."""
    gc.disable()
    try:
        begin = time.thread_time()
        call()
        return time.thread_time() - begin
    finally:
        gc.enable()
