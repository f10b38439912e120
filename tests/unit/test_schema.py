"""The published JSON Schema: valid, true of real messages, and false of wrong ones."""

import copy
import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.support.fakes import record
from worker.decode import Decoder
from worker.encode import Encoder
from worker.errors import REASONS
from worker.records import ABSTAIN_REASONS, Classified, Document, Prediction, Rejection
from worker.schema import messages

DEFINITIONS = messages()["$defs"]
INPUT, OUTPUT, DEAD_LETTER = (
    Draft202012Validator(DEFINITIONS[name]) for name in ("input", "output", "dead_letter_headers")
)


def encoder():
    return Encoder(
        output_topic="emotions",
        dlq_topic="tweets.dlq",
        output_partitions=4,
        labels=("sadness", "joy"),
        model_name="m",
        model_version="v",
    )


def real_output(abstained=None, **kwargs):
    prediction = Prediction("joy", 1.0, (0.0, 1.0), abstained)
    outcome = Classified(Document(record(7), "hello", 5), prediction)
    return json.loads(encoder().encode(outcome, **kwargs).value)


def real_headers(**kwargs):
    output = encoder().dead_letter(record(7, timestamp=-1), "empty_text", "why", **kwargs)
    return {name: value.decode() for name, value in output.headers}


def changed(value, path, new):
    """A copy with one value replaced, or removed where `new` is None."""
    value = copy.deepcopy(value)
    *way, last = path.split("/")
    inner = value
    for name in way:
        inner = inner[name]
    if new is None:
        del inner[last]
    else:
        inner[last] = new
    return value


def test_the_schema_is_valid_itself():
    Draft202012Validator.check_schema(messages())
    for definition in DEFINITIONS.values():
        Draft202012Validator.check_schema(definition)


def test_it_can_be_printed_as_json():
    assert json.loads(json.dumps(messages())) == messages()


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("abstained", [None, *ABSTAIN_REASONS])
def test_a_real_output_validates(refused, abstained):
    value = real_output(abstained, refused_timestamp=refused)
    OUTPUT.validate(value)
    Draft202012Validator(messages()).validate(value)


@pytest.mark.parametrize("cut", [False, True])
def test_real_dead_letter_headers_validate(cut):
    DEAD_LETTER.validate(real_headers(cut=cut))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        *[(name, None) for name in ("id", "label", "score", "scores", "model", "source")],
        ("label", 5),
        ("score", 1.5),
        ("score", -0.1),
        ("score", "0.5"),
        ("scores", {}),
        ("scores", {"joy": 1.0}),
        ("scores/joy", 2),
        ("model/version", None),
        ("model/more", "x"),
        ("source/offset", None),
        ("source/offset", -1),
        ("source/partition", 1.5),
        ("source/timestamp", "now"),
        ("text", "the text has no place here"),
    ],
)
def test_a_wrong_output_does_not_validate(path, new):
    with pytest.raises(ValidationError):
        OUTPUT.validate(changed(real_output(), path, new))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("abstained", None),
        ("abstained", False),
        ("abstained", "true"),
        ("abstained_because", None),
        ("abstained_because", "because"),
    ],
)
def test_a_label_is_abstained_for_a_known_reason_or_not_at_all(path, new):
    with pytest.raises(ValidationError):
        OUTPUT.validate(changed(real_output("low_score"), path, new))


@pytest.mark.parametrize(
    ("name", "new"),
    [
        *[
            (f"dlq.{name}", None)
            for name in ("reason", "message", "topic", "partition", "offset", "timestamp")
        ],
        ("dlq.reason", "because"),
        ("dlq.offset", "seven"),
        ("dlq.partition", ""),
        ("dlq.truncated", "a lot"),
    ],
)
def test_wrong_dead_letter_headers_do_not_validate(name, new):
    with pytest.raises(ValidationError):
        DEAD_LETTER.validate(changed(real_headers(), name, new))


def test_every_reason_is_published():
    assert tuple(DEFINITIONS["dead_letter_headers"]["properties"]["dlq.reason"]["enum"]) == REASONS


@pytest.mark.parametrize(
    "value",
    [
        {"text": "hello"},
        {"text": " hello ", "id": {"n": 1.5}, "more": [1]},
        {"text": ""},
        {"text": " \n"},
        {"text": "\u00a0\u3000"},
        {"text": 5},
        {"id": 5},
        {},
        [],
        "hello",
        None,
        5,
    ],
)
def test_an_input_validates_exactly_where_the_worker_reads_a_text(value):
    decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=1_000)
    outcome = decoder.decode(record(value=json.dumps(value).encode()))
    assert isinstance(outcome, Document | Rejection)
    assert INPUT.is_valid(value) == isinstance(outcome, Document)
