"""Outcomes to output records: the output half of the wire contract."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.support.fakes import record
from worker.encode import TRUNCATED_VALUE_BYTES, Encoder, describes_value
from worker.errors import REASONS
from worker.records import (
    ABSTAIN_REASONS,
    Classified,
    Document,
    Prediction,
    Rejection,
    Tombstone,
)
from worker.schema import messages

LABELS = ("sadness", "joy", "love")
OUTPUT = Draft202012Validator(messages()["$defs"]["output"])
DEAD_LETTER = Draft202012Validator(messages()["$defs"]["dead_letter_headers"])
HEADERS = (("a", b"1"), ("b", None), ("a", b"2"), ("", b""), ("caf\u00e9", b"\xff\0"))


def encoder(*, partitions=4, by_key=True):
    return Encoder(
        output_topic="emotions",
        dlq_topic="tweets.dlq",
        output_partitions=partitions,
        by_key=by_key,
        labels=LABELS,
        model_name="emotion-minilm",
        model_version="3f2a9c1b7d04",
    )


def classified(*, identity="1729", scores=(0.01, 0.98, 0.01), abstained=None, **kwargs):
    best = max(range(3), key=lambda index: scores[index])
    prediction = Prediction(LABELS[best], scores[best], tuple(scores), abstained)
    return Classified(Document(record(**kwargs), "hello", identity), prediction)


def rejected(reason="invalid_json", message="Expecting value at character 0", **kwargs):
    return Rejection(record(**kwargs), reason, message)


def dlq_headers(output):
    return {name: value.decode() for name, value in output.headers if name.startswith("dlq.")}


def test_a_label_is_written_as_the_contract_shows_it():
    output = encoder().encode(
        classified(identity="1729", scores=(0.001, 0.987123, 0.0118), partition=3)
    )
    assert json.loads(output.value) == {
        "id": "1729",
        "label": "joy",
        "score": 0.987123,
        "scores": {"sadness": 0.001, "joy": 0.987123, "love": 0.0118},
        "model": {"name": "emotion-minilm", "version": "3f2a9c1b7d04"},
        "source": {"topic": "tweets", "partition": 3, "offset": 0},
    }
    assert list(json.loads(output.value)["scores"]) == list(LABELS)
    assert (output.kind, output.topic) == ("labelled", "emotions")
    assert (output.label, output.score, output.reason) == ("joy", 0.987123, None)
    assert output.abstained is None


@pytest.mark.parametrize("reason", ABSTAIN_REASONS)
@pytest.mark.parametrize("refused", [False, True])
def test_where_the_worker_abstains_the_label_stays_and_two_members_come_last(reason, refused):
    plain = encoder().encode(classified(), refused_timestamp=refused)
    output = encoder().encode(classified(abstained=reason), refused_timestamp=refused)
    more = f',"abstained":true,"abstained_because":"{reason}"}}'
    assert output.value == plain.value[:-1] + more.encode()
    assert (output.label, output.abstained) == ("joy", reason)
    OUTPUT.validate(json.loads(output.value))


@given(
    identity=st.none()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers(-5, 2**64 - 1),
    weights=st.tuples(*[st.floats(0, 1)] * 3).filter(lambda weights: sum(weights) > 0),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.integers(-1, 2**62),
    refused=st.booleans(),
    abstained=st.sampled_from([None, *ABSTAIN_REASONS]),
)
def test_every_label_keeps_the_published_schema(
    *, identity, weights, partition, offset, timestamp, refused, abstained
):
    scores = [weight / sum(weights) for weight in weights]
    outcome = classified(
        identity=identity, scores=scores, partition=partition, offset=offset, timestamp=timestamp,
        abstained=abstained,
    )  # fmt: skip
    value = json.loads(encoder().encode(outcome, refused_timestamp=refused).value)
    OUTPUT.validate(value)
    assert value["id"] == identity
    assert value["score"] == max(value["scores"].values()) == value["scores"][value["label"]]
    assert sum(value["scores"].values()) == pytest.approx(1, abs=3e-6)
    assert value["source"]["offset"] == offset


@pytest.mark.parametrize(
    ("by_key", "key", "expected"),
    [
        (True, b"k", None),
        (True, b"", None),
        (True, None, 2),
        (False, b"k", 6),
        (False, b"", 6),
        (False, None, 6),
    ],
)
def test_a_label_goes_where_its_key_says_or_to_its_records_partition(by_key, key, expected):
    made = encoder(partitions=8 if not by_key else 4, by_key=by_key)
    assert made.encode(classified(partition=6, key=key)).partition == expected
    assert made.encode(Tombstone(record(partition=6, key=key))).partition == expected
    assert made.encode(rejected(partition=6, key=key)).partition is None


ABOUT_THE_VALUE = [
    *("content-type", "Content-Type", "CONTENT_TYPE", "contentType", "content-encoding"),
    *("Content-Length", "__TypeId__", "__typeid__", "__ContentTypeId__", "__KeyTypeId__"),
    *("__value_schema_id", "value.schema.version.id", "spring.kafka.serialization.selector"),
    *("apicurio.value.globalId", "apicurio.value.encoding", "Apicurio.Value.X"),
    *("ce_datacontenttype", "ce_dataschema", "ce-dataschema", "googclient_schemaencoding"),
]
ABOUT_OTHER_THINGS = [
    *("", "trace", "x-content-type", "content-type-x", "content-language", "traceparent"),
    *("__key_schema_id", "__Key_TypeId__", "__Key_ContentTypeId__", "apicurio.key.globalId"),
    *("key.schema.version.id", "spring.kafka.key.serialization.selector", "ce_type", "ce_id"),
    *("ce_specversion", "__TypeId", "apicurio", "dlq.redriven", "caf\u00e9"),
]


@pytest.mark.parametrize("name", ABOUT_THE_VALUE)
def test_a_header_that_describes_the_value_is_not_passed_to_another_value(name):
    headers = [("a", b"1"), (name, b"avro/binary"), ("b", None), (name, None)]
    label = encoder().encode(classified(headers=headers))
    tombstone = encoder().encode(Tombstone(record(value=None, headers=headers)))
    assert label.headers == tombstone.headers == [("a", b"1"), ("b", b"")]
    letter = encoder().encode(rejected(headers=headers))
    assert letter.headers[:4] == [("a", b"1"), (name, b"avro/binary"), ("b", b""), (name, b"")]


@pytest.mark.parametrize("name", ABOUT_OTHER_THINGS)
def test_every_other_header_is_passed_on(name):
    assert not describes_value(name)
    assert encoder().encode(classified(headers=[(name, b"1")])).headers == [(name, b"1")]


def test_an_id_that_is_ready_made_json_is_written_as_it_is():
    value = encoder().encode(classified(identity=orjson.Fragment(b'{"n":1.10}'))).value
    assert b'"id":{"n":1.10},' in value


@pytest.mark.parametrize(
    "outcome", [classified(headers=HEADERS), Tombstone(record(headers=HEADERS))]
)
def test_headers_keep_their_order_and_duplicates_and_a_null_value_becomes_empty(outcome):
    assert encoder().encode(outcome).headers == [
        *(("a", b"1"), ("b", b""), ("a", b"2")),
        *(("", b""), ("caf\u00e9", b"\xff\0")),
    ]


@pytest.mark.parametrize("outcome", [classified, lambda **kwargs: Tombstone(record(**kwargs))])
def test_the_event_time_is_kept_unless_there_is_none_or_the_broker_refuses_it(outcome):
    assert encoder().encode(outcome(timestamp=0)).timestamp == 0
    assert encoder().encode(outcome(timestamp=1_700_000_000_123)).timestamp == 1_700_000_000_123
    assert encoder().encode(outcome(timestamp=-1)).timestamp is None
    refused = encoder().encode(outcome(timestamp=4_102_444_800_000), refused_timestamp=True)
    assert refused.timestamp is None


def test_a_refused_event_time_is_told_in_the_source():
    outcome = classified(timestamp=4_102_444_800_000)
    value = json.loads(encoder().encode(outcome, refused_timestamp=True).value)
    assert value["source"]["timestamp"] == 4_102_444_800_000
    assert "timestamp" not in json.loads(encoder().encode(outcome).value)["source"]


@pytest.mark.parametrize("key", [b"k", b"", b"\xff\0"])
@pytest.mark.parametrize("outcome", [classified, lambda **kwargs: Tombstone(record(**kwargs))])
def test_a_key_is_kept_and_chooses_the_partition(outcome, key):
    output = encoder().encode(outcome(key=key, partition=7))
    assert (output.key, output.partition) == (key, None)


@pytest.mark.parametrize("outcome", [classified, lambda **kwargs: Tombstone(record(**kwargs))])
@pytest.mark.parametrize(("partition", "partitions", "chosen"), [(3, 4, 3), (7, 4, 3), (5, 1, 0)])
def test_without_a_key_the_input_partition_chooses(outcome, partition, partitions, chosen):
    output = encoder(partitions=partitions).encode(outcome(key=None, partition=partition))
    assert (output.key, output.partition) == (None, chosen)


def test_a_tombstone_is_forwarded_with_its_null_value():
    output = encoder().encode(Tombstone(record(5, value=None)))
    assert (output.kind, output.topic, output.key, output.value) == (
        *("tombstone", "emotions"),
        *(b"k", None),
    )
    assert (output.label, output.score, output.reason) == (None, None, None)


@pytest.mark.parametrize("reason", REASONS)
def test_a_dead_letter_tells_its_reason_behind_the_original_headers(reason):
    outcome = rejected(
        reason, "caf\u00e9 is not JSON", offset=1_042, partition=3, timestamp=1_700_000_000_123,
        headers=(*HEADERS, ("dlq.reason", b"an older one")),
    )  # fmt: skip
    output = encoder().encode(outcome)
    assert output.headers == [
        *(("a", b"1"), ("b", b""), ("a", b"2"), ("", b""), ("caf\u00e9", b"\xff\0")),
        ("dlq.reason", b"an older one"),
        ("dlq.reason", reason.encode()),
        ("dlq.message", b"caf\xc3\xa9 is not JSON"),
        ("dlq.topic", b"tweets"),
        ("dlq.partition", b"3"),
        ("dlq.offset", b"1042"),
        ("dlq.timestamp", b"1700000000123"),
    ]
    DEAD_LETTER.validate(dlq_headers(output))
    assert (output.kind, output.topic, output.reason) == ("dead_letter", "tweets.dlq", reason)


@given(key=st.none() | st.binary(), value=st.binary())
def test_a_dead_letter_has_the_original_bytes(key, value):
    output = encoder().encode(rejected(key=key, value=value))
    assert (output.key, output.value) == (key, value)
    assert (output.label, output.score) == (None, None)


def test_a_dead_letter_has_the_present_time_and_the_original_in_a_header():
    # With the old one the topic's retention could delete it on the spot.
    output = encoder().encode(rejected(timestamp=5))
    assert output.timestamp is None
    assert dlq_headers(output)["dlq.timestamp"] == "5"
    assert dlq_headers(encoder().encode(rejected(timestamp=-1)))["dlq.timestamp"] == "-1"


def test_a_dead_letter_goes_to_any_partition():
    assert encoder().encode(rejected(key=None, partition=3)).partition is None


def test_a_cut_dead_letter_keeps_the_beginning_and_tells_the_size():
    source = record(key=b"k" * 5_000, value=b"v" * 5_000, headers=(("big", b"h" * 5_000),))
    output = encoder().dead_letter(source, "output_refused", "too large", cut=True)
    assert output.value == b"v" * TRUNCATED_VALUE_BYTES
    assert output.key == b"k" * TRUNCATED_VALUE_BYTES
    assert [name for name, _ in output.headers] == [
        *("dlq.reason", "dlq.message", "dlq.topic", "dlq.partition", "dlq.offset"),
        *("dlq.timestamp", "dlq.truncated"),
    ]
    assert dlq_headers(output)["dlq.truncated"] == "5000"
    DEAD_LETTER.validate(dlq_headers(output))


def test_a_cut_dead_letter_keeps_nulls_and_what_is_short():
    output = encoder().dead_letter(
        record(key=None, value=None), "output_refused", "refused", cut=True
    )
    assert (output.key, output.value) == (None, None)
    assert dlq_headers(output)["dlq.truncated"] == "0"
    short = encoder().dead_letter(record(value=b"v"), "output_refused", "refused", cut=True)
    assert (short.key, short.value) == (b"k", b"v")


def test_every_output_remembers_the_record_it_came_from():
    for outcome in (classified(offset=9), rejected(offset=9)):
        assert encoder().encode(outcome).record.offset == 9
    assert encoder().encode(Tombstone(record(9))).record.offset == 9
