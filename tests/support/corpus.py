"""Records that are good at breaking things, as hypothesis strategies.

Values are put together from bytes rather than from JSON values, so that they can be almost JSON.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.fakes import BREAKS, NOT_FINITE


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A record to decode, and what is known of it without decoding it."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 0
    text: str | None = None
    """The text, where the record is a good one by the default settings."""
    id: Any = None


# fmt: off
NUMBERS = (
    b"0", b"-0", b"-0.0", b"1.10", b"1e400", b"-1E+999", b"1e-400", b"0.1e1",
    b"-9223372036854775809", b"18446744073709551616", b"9" * 400, b"9" * 5_000,
    b"0." + b"3" * 5_000,
    b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1.", b"0x10", b"1e", b"--1",
)
SCRAPS = (
    b"", b" ", b"\x00", b"\x1f", b"\x7f", b"\n", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf",
    b"\xf5\x80\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80", b"\xc2\xa0",
    b"\xe3\x80\x80", b"e\xcc\x81", b"\\u0000", b"\\ud800", b"\\udfff", b"\\ud83d\\ude00",
    b"\\ude00\\ud83d", b"\\u", b"\\x", b"\\", b'\\"', b'"', b"hello", b"feel joy",
    BREAKS.encode(), NOT_FINITE.encode(),
)
NAMES = (b"text", b"id", b"data", b"", b"Text", b"a", b"a.b", b"\\u0074ext", b"te\\ud800xt")
PATHS = ("text", "id", "data", "data.text", "data.id", "a.b", "a..b", ".", "text.text", "\u00e9")
# fmt: on


def _one_of(*options: Any) -> st.SearchStrategy[Any]:
    """As `sampled_from`, without the options in its name: some are long."""
    return st.integers(0, len(options) - 1).map(lambda index: options[index])


keys = st.none() | st.binary(max_size=20) | _one_of(b"", b"\x00", b"\xff" * 300, b"k" * 5_000)
header_names = st.text(max_size=8) | _one_of("trace", "", "dlq.reason", "\u00e9", "n" * 2_000)
header_values = st.none() | st.binary(max_size=8) | _one_of(b"h" * 3_000)
headers = st.lists(st.tuples(header_names, header_values), max_size=4).map(tuple)
present = st.integers(1_790_000_000_000, 1_790_000_100_000)
timestamps = present | _one_of(-1, 0, 1, 2**31, 2**40)


def _joined(parts: list[bytes]) -> bytes:
    return b"".join(parts)


strings = st.lists(_one_of(*SCRAPS) | st.binary(max_size=4), max_size=6).map(
    lambda parts: b'"%s"' % _joined(parts)
)
scalars = st.one_of(
    strings, _one_of(*NUMBERS), st.sampled_from([b"null", b"true", b"false", b"nul", b""])
)
names = _one_of(*NAMES).map(lambda name: b'"%s"' % name) | strings


def _containers(inside: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    pairs = st.lists(st.tuples(names, inside), max_size=5)  # names may come twice
    return st.one_of(
        pairs.map(lambda found: b"{%s}" % b",".join(b"%s:%s" % pair for pair in found)),
        st.lists(inside, max_size=4).map(lambda found: b"[%s]" % b",".join(found)),
    )


fragments = st.recursive(scalars, _containers, max_leaves=8)
depths = st.sampled_from([1, 200, 249, 250, 251, 254, 256, 900, 1_000, 1_024, 1_100, 20_000])
nested = st.builds(
    lambda depth, pair, core, ends: pair[0] * depth + core + pair[1] * (depth if ends else 0),
    depths,
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'{"text":', b"}")]),
    scalars,
    st.booleans(),
)
almost = st.builds(
    lambda text, rest: b'{"text":%s,"id":%s}' % (text, rest),
    strings | fragments,
    fragments | nested,
)
words = st.lists(
    st.sampled_from(["joy", "sad", "\u00e9", "\U0001f600", "\u200b", "a\u0301", "0", "\ufffd"])
    | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
).map(" ".join).filter(lambda text: text.strip() and "!" not in text)  # fmt: skip
unicode = st.text(st.characters(codec="utf-8"), max_size=6)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    unicode,
)
ids = st.recursive(
    plain,
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(unicode, inside, max_size=2),
    max_leaves=3,
)


@st.composite
def good(draw: st.DrawFn) -> Odd:
    text, identity = draw(words), draw(ids)
    value = json.dumps({"text": text, "id": identity}, ensure_ascii=draw(st.booleans()))
    return Odd(value=value.encode(), text=text, id=identity)


@st.composite
def _damaged(draw: st.DrawFn) -> Odd:
    """A good record with a few bytes cut out or put in."""
    value = bytearray(draw(good()).value or b"")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(_one_of(*SCRAPS) | st.binary(max_size=2))
    return Odd(value=bytes(value))


def _value(strategy: st.SearchStrategy[bytes]) -> st.SearchStrategy[Odd]:
    return strategy.map(lambda value: Odd(value=value))


contents = st.one_of(
    good(),
    good(),
    _damaged(),
    _value(almost),
    _value(fragments),
    _value(nested),
    _value(st.binary(max_size=60)),
    _value(_one_of(*SCRAPS)),
    _value(words.map(lambda text: json.dumps({"text": text}).encode("utf-16"))),
    _value(st.integers(0, 1_200).map(lambda size: b'{"text":"%s"}' % (b"x" * size))),
    st.just(Odd(value=None)),
)
records = st.builds(
    lambda content, key, heads, time: replace(content, key=key, headers=heads, timestamp=time),
    contents, keys, headers, timestamps,
)  # fmt: skip


def corpus(count: int, number: int) -> list[Odd]:
    """So many records, the same for the same number."""
    found: list[Odd] = []
    while len(found) < count:

        @seed(number + len(found))
        @settings(
            max_examples=min(5_000, count - len(found)),
            phases=[Phase.generate],
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(records)
        def collect(record: Odd) -> None:
            found.append(record)

        collect()
    return found[:count]
