"""Whatever a record holds, it is labelled, forwarded or dead-lettered, and nothing breaks."""

import json
import os
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from kafka.record.memory_records import MemoryRecordsBuilder

from tests.support.audit import read_committed
from tests.support.corpus import PATHS, Odd, corpus, good, records
from tests.support.fakes import StubClassifier, expected_label, record
from tests.support.kafka_helpers import Message, produce
from tests.support.worker_process import WorkerProcess
from worker.decode import Decoder
from worker.encode import Encoder
from worker.errors import REASONS
from worker.records import Classified, Document, Prediction, Rejection, Tombstone
from worker.schema import messages

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
INPUTS = 100_000 if LONG else 2_000
FUTURE = 2**62  # ms
HOUR = 3_600_000

DEFINITIONS = messages()["$defs"]
OUTPUT, DEAD_LETTER = (
    Draft202012Validator(DEFINITIONS[name]) for name in ("output", "dead_letter_headers")
)
ENCODER = Encoder(
    output_topic="out", dlq_topic="dlq", output_partitions=4, labels=StubClassifier.labels,
    model_name="stub", model_version="0",
)  # fmt: skip
decoders = st.builds(
    Decoder,
    format=st.sampled_from(["json", "json", "text"]),
    text_field=st.sampled_from(["text", *PATHS]),
    id_field=st.sampled_from(["id", *PATHS]),
    max_bytes=st.sampled_from([1, 50, 1_000, 262_144]),
)
DEFAULT = Decoder(format="json", text_field="text", id_field="id", max_bytes=262_144)


def parsed(value):
    """JSON, also with integers of more digits than Python takes."""
    return json.loads(value, parse_int=lambda digits: int(digits[:4_000]))


def outcome_of(decoded):
    """As the stub would have it."""
    if isinstance(decoded, Document):
        return Classified(decoded, Prediction("joy", 0.8, (0.1, 0.8, 0.1)))
    assert isinstance(decoded, Tombstone | Rejection)
    return decoded


def assert_client_can_write(output):
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 24)
    assert builder.append(output.timestamp, output.key, output.value, output.headers) is not None


def headers_as_sent(headers):
    return [(name, b"" if value is None else value) for name, value in headers]


@pytest.mark.timeout(3_600 if LONG else 600)
@settings(max_examples=INPUTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    odd=records,
    decoder=decoders,
    timestamp=st.sampled_from([None, None, None, FUTURE, 2**63 - 1]),
    refused=st.booleans(),
)
def test_every_record_has_one_outcome_that_can_be_written(odd, decoder, timestamp, refused):
    timestamp = odd.timestamp if timestamp is None else timestamp
    came = record(3, odd.value, key=odd.key, headers=odd.headers, timestamp=timestamp)
    decoded = decoder.decode(came)
    output = ENCODER.encode(outcome_of(decoded), refused_timestamp=refused)
    assert_client_can_write(output)
    assert output.key == odd.key
    if isinstance(decoded, Rejection):
        assert output.value == odd.value
        assert output.headers[: len(odd.headers)] == headers_as_sent(odd.headers)
        ours = {name: value.decode() for name, value in output.headers[len(odd.headers) :]}
        DEAD_LETTER.validate(ours)
        assert ours["dlq.reason"] in REASONS
        assert_client_can_write(
            ENCODER.dead_letter(came, decoded.reason, decoded.message, cut=True)
        )
        return
    assert output.headers == headers_as_sent(odd.headers)
    assert (output.value is None) == (odd.value is None) == isinstance(decoded, Tombstone)
    if output.value is not None:
        OUTPUT.validate(parsed(output.value))


@given(odd=good())
def test_a_good_record_is_a_document_with_its_text_and_id(odd):
    decoded = DEFAULT.decode(record(3, odd.value))
    assert isinstance(decoded, Document)
    assert decoded.text == odd.text
    assert parsed(ENCODER.encode(outcome_of(decoded)).value)["id"] == odd.id


EXTREMES = [
    Odd(value=b"x" * 1_040_000, key=b"too large, and its dead letter hardly fits"),
    Odd(value=b'{"text": "%s"}' % (b"joy " * 60_000), timestamp=1_790_000_000_000),
    Odd(value=b"[" * 200_000),
    Odd(value=b"broken", headers=tuple((f"h{n}", b"v" * 100) for n in range(2_000))),
    Odd(value=None, timestamp=FUTURE),
    Odd(value=b'{"text": "from the future"}', key=b"f", timestamp=FUTURE, text="from the future"),
]
NUMBER = "fuzz.n"


@pytest.fixture(scope="module")
def fuzzed(kafka):
    """The records, and a topic that holds them; each says its number in its last header."""
    from tests.support.kafka_helpers import create_topic, delete_topic

    print(f"CHAOS_SEED={SEED}")
    odd = [*corpus(INPUTS - len(EXTREMES), SEED), *EXTREMES]
    random.Random(SEED).shuffle(odd)
    name = create_topic(
        kafka,
        f"fuzz-{SEED}-{os.getpid()}",
        4,
        config={"message.timestamp.after.max.ms": str(2**63 - 1), "retention.ms": "-1"},
    )
    sent = (
        Message(
            value=each.value, key=each.key, timestamp=each.timestamp,
            headers=(*each.headers, (NUMBER, b"%d" % number)),
        )
        for number, each in enumerate(odd)
    )  # fmt: skip
    produce(kafka, name, sent)
    yield name, odd
    delete_topic(kafka, name)


@pytest.mark.slow
@pytest.mark.timeout(3_600 if LONG else 600)
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"input__format": "text", "input__max_bytes": 500},
        {"input__text_field": "data.text", "input__id_field": "a.b"},
    ],
    ids=["defaults", "text", "paths"],
)
def test_a_worker_settles_every_record_and_lives(kafka, fuzzed, topic, tmp_path, chosen):
    name, odd = fuzzed
    kept = {"retention.ms": "-1"}  # of whatever time they are
    out, dlq = topic("out", partitions=4, config=kept), topic("dlq", config=kept)
    worker = WorkerProcess(
        bootstrap=kafka, directory=tmp_path, group=f"{out}-group",
        input_topic=name, output_topic=out, dlq_topic=dlq, breaker__threshold=1, **chosen,
    )  # fmt: skip
    with worker:
        worker.start()
        worker.wait_processed(len(odd), timeout=2_400 if LONG else 240)
        assert worker.get("/livez")[0] == 200
        assert worker.stop() == 0
    inputs = {(came.partition, came.offset): came for came in read_committed(kafka, name)}
    assert len(inputs) == len(odd)
    numbered = {number_of(came): came for came in inputs.values()}
    settled = Counter(
        label(came, inputs, numbered, odd if not chosen else None)
        for came in read_committed(kafka, out)
    )
    settled.update(dead_letter(letter, inputs) for letter in read_committed(kafka, dlq))
    print(f"{len(odd)} inputs, seed {SEED}: {dict(Counter(kind for kind, _ in settled))}")
    assert max(settled.values()) == 1
    assert {number for _, number in settled} == set(range(len(odd)))
    assert sum(settled.values()) == len(odd)
    if not chosen:
        good = {number for number, each in enumerate(odd) if each.text is not None}
        assert good <= {number for kind, number in settled if kind == "labelled"}


def number_of(came):
    header, number = came.headers[-1]
    assert header == NUMBER
    return int(number)


def label(came, inputs, numbered, odd):
    """What an output settles, after a look at all that it must keep."""
    if came.value is None:
        source = numbered[number_of(came)]
        time = came.timestamp
    else:
        value = parsed(came.value)
        OUTPUT.validate(value)
        named = value["source"]
        source = inputs[named["partition"], named["offset"]]
        time = named.get("timestamp", came.timestamp)
        if odd and odd[number_of(source)].text is not None:
            expected = odd[number_of(source)]
            assert (value["label"], value["id"]) == (expected_label(expected.text), expected.id)
    assert came.key == source.key
    assert list(came.headers) == headers_as_sent(source.headers)
    assert came.value is None or time == source.timestamp or source.timestamp < 0
    return ("tombstone" if came.value is None else "labelled"), number_of(source)


def dead_letter(letter, inputs):
    theirs, ours = [], {}
    for header, value in letter.headers:
        theirs.append((header, value))
        ours[header] = value.decode(errors="replace")
    DEAD_LETTER.validate({n: v for n, v in ours.items() if n.startswith("dlq.")})
    source = inputs[int(ours["dlq.partition"]), int(ours["dlq.offset"])]
    if "dlq.truncated" in ours:
        assert source.value.startswith(letter.value)
    else:
        assert (letter.key, letter.value) == (source.key, source.value)
        assert theirs[: len(source.headers)] == headers_as_sent(source.headers)
    return "dead_letter", number_of(source)
