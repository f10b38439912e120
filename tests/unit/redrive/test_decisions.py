"""What becomes of one dead letter: its headers, its place, its time, and why it may be left."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import record
from worker.encode import TRUNCATED_VALUE_BYTES, Encoder
from worker.redrive.decisions import (
    REDRIVEN,
    Chooser,
    Filter,
    Tally,
    origin_of,
    refused,
    without_time,
)

ENCODER = Encoder(
    output_topic="out", dlq_topic="dlq", output_partitions=4, labels=("a", "b"), model_name="m",
    model_version="0",
)  # fmt: skip
WRITTEN = 1_790_000_000_000


def letter(original, reason="invalid_json", *, cut=False, offset=7, timestamp=WRITTEN, extra=()):
    """The dead letter of a record as it comes back from the broker."""
    output = ENCODER.dead_letter(original, reason, "why", cut=cut)
    return record(
        offset, output.value, partition=2, key=output.key, timestamp=timestamp, topic="dlq",
        headers=[*output.headers, *extra],
    )  # fmt: skip


def choose(given_letter, *, partitions=4, **chosen):
    if "reasons" in chosen:
        chosen["reasons"] = frozenset(chosen["reasons"])
    chooser = Chooser(input_topic="tweets", partitions=partitions, chosen=Filter(**chosen))
    return chooser.choose(given_letter)


def assert_left(move, given_letter, fate):
    """Appended again as it is, where it was."""
    assert move.fate == fate
    assert (move.topic, move.partition) == ("dlq", 2)
    assert (move.key, move.value) == (given_letter.key, given_letter.value)
    assert tuple(move.headers) == given_letter.headers
    assert move.timestamp == given_letter.timestamp


names = st.sampled_from(["trace", "", "dlq.reason", "dlq.offset", "dlq.truncated", "x"])
headers = st.lists(st.tuples(names, st.binary(max_size=5)), max_size=6)


@given(
    headers,
    st.none() | st.binary(max_size=9),
    st.none() | st.binary(max_size=9),
    st.integers(0, 3),
    st.integers(0, 2**60),
)
def test_what_is_put_back_is_the_record_that_was_rejected(
    headers, key, value, partition, timestamp
):
    original = record(
        5, value, key=key, headers=headers, partition=partition, timestamp=timestamp
    )  # fmt: skip
    move = choose(letter(original))
    assert move.fate == "again"
    assert (move.topic, move.partition, move.timestamp) == ("tweets", partition, timestamp)
    assert (move.key, move.value) == (key, value)
    assert move.headers == [*headers, (REDRIVEN, b"1")]


def test_the_origin_is_what_the_headers_say():
    origin = origin_of(letter(record(42, partition=3, timestamp=9), "model_failed"))
    assert (origin.reason, origin.topic, origin.partition) == ("model_failed", "tweets", 3)
    assert (origin.offset, origin.timestamp, origin.truncated) == (42, 9, False)
    assert origin.redriven == 0


def test_the_count_goes_up_each_time_around():
    original = record(headers=[("trace", b"1"), ("trace", b"2")])
    for times in range(1, 12):
        move = choose(letter(original))
        assert move.headers == [("trace", b"1"), ("trace", b"2"), (REDRIVEN, b"%d" % times)]
        original = record(headers=move.headers)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([b"3"], b"4"),
        ([b"3", b"9", b"1"], b"10"),
        ([b"many"], b"1"),
        ([b"-2"], b"1"),
        ([b""], b"1"),
        ([b"9" * 17], b"1" + b"0" * 17),
        ([b"9" * 19], b"1"),
        ([b"9" * 4_301], b"1"),
        ([b"1" * 1_000_000], b"1"),
        ([b"4", b"9" * 5_000], b"5"),
        ([b"1_0"], b"1"),
        ("\u0663".encode().splitlines(), b"1"),
    ],
)
def test_one_count_is_left_of_several_and_nonsense_counts_as_none(counts, expected):
    original = record(headers=[("a", b""), *((REDRIVEN, count) for count in counts), ("b", b"")])
    assert choose(letter(original)).headers == [("a", b""), ("b", b""), (REDRIVEN, expected)]


def test_a_copied_dead_letter_that_was_rejected_again_keeps_the_older_headers():
    first = letter(record(5), "empty_text")
    again = letter(record(8, headers=first.headers), "invalid_json")
    origin = origin_of(again)
    assert (origin.reason, origin.offset) == ("invalid_json", 8)
    assert choose(again).headers == [*first.headers, (REDRIVEN, b"1")]


def test_a_truncated_mark_in_the_records_own_headers_is_not_ours():
    assert choose(letter(record(headers=[("dlq.truncated", b"9")]))).fate == "again"


def test_what_others_added_behind_our_headers_stays_with_the_record():
    move = choose(letter(record(headers=[("a", b"1")]), extra=[("mirror", b"x")]))
    assert move.headers == [("a", b"1"), ("mirror", b"x"), (REDRIVEN, b"1")]


def test_a_truncated_one_is_never_put_back():
    big = letter(record(value=b"v" * 5_000), "output_too_large", cut=True)
    assert len(big.value) == TRUNCATED_VALUE_BYTES
    assert_left(choose(big), big, "truncated")


def test_one_of_another_topic_is_left():
    other = letter(record(topic="posts"))
    assert_left(choose(other), other, "elsewhere")


@pytest.mark.parametrize("missing", range(6))
def test_without_one_of_our_headers_it_is_not_ours(missing):
    whole = letter(record(headers=[("trace", b"1")]))
    lacking = [h for at, h in enumerate(whole.headers) if at != missing + 1]
    given_letter = record(7, partition=2, topic="dlq", timestamp=WRITTEN, headers=lacking)
    assert_left(choose(given_letter), given_letter, "foreign")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dlq.partition", b"-1"),
        ("dlq.partition", b"x"),
        ("dlq.offset", b""),
        ("dlq.timestamp", b"now"),
        ("dlq.timestamp", b"9" * 19),
        ("dlq.timestamp", b"9" * 5_000),
        ("dlq.offset", b"1_0"),
        ("dlq.offset", b" 7 "),
        ("dlq.partition", b"1" * 4_301),
        ("dlq.reason", b"\xff"),
    ],
)
def test_with_a_damaged_header_it_is_not_ours(name, value):
    whole = letter(record())
    damaged = [(n, value if n == name else v) for n, v in whole.headers]
    given_letter = record(7, partition=2, topic="dlq", timestamp=WRITTEN, headers=damaged)
    assert_left(choose(given_letter), given_letter, "foreign")


def test_a_stranger_without_headers_is_left_and_its_null_headers_become_empty():
    bare = record(7, None, key=None, partition=2, topic="dlq", timestamp=WRITTEN)
    assert_left(choose(bare), bare, "foreign")
    null = record(7, partition=2, topic="dlq", headers=[("h", None)])
    assert choose(null).headers == [("h", b"")]


def test_reasons_and_times_choose():
    bad = letter(record(), "invalid_json")
    assert choose(bad, reasons=["invalid_json", "empty_text"]).fate == "again"
    assert_left(choose(bad, reasons=["empty_text"]), bad, "unchosen")
    assert choose(bad, since=WRITTEN).fate == "again"
    assert_left(choose(bad, since=WRITTEN + 1), bad, "unchosen")
    assert choose(bad, until=WRITTEN + 1).fate == "again"
    assert_left(choose(bad, until=WRITTEN), bad, "unchosen")
    assert choose(bad, reasons=["invalid_json"], since=1, until=2).fate == "unchosen"


def test_the_time_that_counts_is_the_dead_letters_own():
    old = letter(record(timestamp=1_000))
    assert choose(old, since=WRITTEN - 1).fate == "again"
    assert choose(old, until=2_000).fate == "unchosen"


def test_a_truncated_one_that_is_not_asked_for_is_only_left():
    cut = letter(record(), "output_too_large", cut=True)
    assert choose(cut, reasons=["invalid_json"]).fate == "unchosen"


def test_a_partition_that_is_no_more_leaves_the_choice_to_the_key():
    assert choose(letter(record(partition=3)), partitions=4).partition == 3
    assert choose(letter(record(partition=3)), partitions=3).partition is None


def test_a_record_without_a_time_gets_the_present_one():
    assert choose(letter(record(timestamp=-1))).timestamp is None


def test_what_the_input_topic_refuses_is_left_or_gets_the_present_time():
    bad = letter(record(timestamp=5))
    move = choose(bad)
    assert without_time(move).timestamp is None
    assert without_time(move).headers == move.headers
    assert_left(refused(move), bad, "refused")


def test_the_tally_tells_what_became_of_each_and_where_the_first_refused_came_from():
    letters = (
        [letter(record(n), "invalid_json") for n in range(3)]
        + [letter(record(n), "empty_text") for n in range(2)]
        + [letter(record(n, partition=1), "output_too_large", cut=True) for n in range(100, 108)]
        + [letter(record(topic="posts")), record(topic="dlq")]
    )
    random.shuffle(letters)
    tally = Tally()
    moves = [choose(each) for each in letters]
    tally.add(moves[:6])
    tally.add(moves[6:])
    assert tally.again == {"invalid_json": 3, "empty_text": 2}
    assert tally.left == {"truncated": 8, "elsewhere": 1, "foreign": 1}
    named = tally.examples["truncated"]
    assert len(set(named)) == 5
    assert set(named) <= {f"tweets-1 offset {n}" for n in range(100, 108)}
