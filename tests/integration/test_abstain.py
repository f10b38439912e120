"""The thresholds of a checkpoint, on a real Apache Kafka: which labels the worker abstains on."""

import json
import re
import shutil
from types import SimpleNamespace

import jsonschema
import pytest

from tests.support import tiny
from tests.support.kafka_helpers import Message, committed, end_offsets, produce, read_all
from tests.support.lazy import Lazy
from tests.support.worker_process import WorkerProcess
from worker.records import ABSTAIN_REASONS
from worker.schema import messages

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

torch, transformers = Lazy("torch"), Lazy("transformers")

TEXTS = [text for text, _ in tiny.sentences(60, seed=5)]
TEMPERATURE = 1.7
PARTITIONS = 4
MESSAGES = [
    Message(value=json.dumps({"text": text, "id": number}).encode(), key=b"%d" % number)
    for number, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def judged(untrained):
    """The best score and the energy of each text, by transformers alone."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(untrained).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(untrained)
    found = []
    with torch.inference_mode():
        for text in TEXTS:
            logits = model(**tokenizer(text, return_tensors="pt", padding=False)).logits[0]
            best = torch.softmax(logits / TEMPERATURE, dim=-1).max().item()
            found.append((best, -torch.logsumexp(logits, dim=-1).item()))
    return found


def between(values, share):
    """A number in the widest gap about that share of the values: rounding moves none across."""
    ordered = sorted(values)
    middle = int(len(ordered) * share)
    near = range(middle - 4, middle + 4)
    at = max(near, key=lambda index: ordered[index + 1] - ordered[index])
    return (ordered[at] + ordered[at + 1]) / 2


@pytest.fixture(scope="module")
def thresholds(judged):
    scores, energies = zip(*judged, strict=True)
    return {"score": between(scores, 0.4), "energy": between(energies, 0.7), "split": "none"}


@pytest.fixture(scope="module")
def marked(untrained, thresholds, tmp_path_factory):
    path = shutil.copytree(untrained, tmp_path_factory.mktemp("marked") / "marked")
    manifest = {"temperature": TEMPERATURE, "abstain": thresholds}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
def expected(judged, thresholds):
    """Why the worker is to abstain on each text; None: it is not."""
    return [
        "out_of_domain" if energy > thresholds["energy"]
        else "low_score" if best < thresholds["score"]
        else None
        for best, energy in judged
    ]  # fmt: skip


@pytest.fixture
def labelled(kafka, topic, marked, tmp_path):
    """A function that has all texts labelled by one worker, with more settings."""

    def label(**settings):
        names = {
            "input_topic": topic("tweets", partitions=PARTITIONS),
            "output_topic": topic("emotions", partitions=PARTITIONS),
            "dlq_topic": topic("dlq"),
        }
        produce(kafka, names["input_topic"], MESSAGES)
        worker = WorkerProcess(
            bootstrap=kafka, directory=tmp_path, group=names["input_topic"], checkpoint=marked,
            model__device="cpu", model__dtype="float32", model__threads=1, batch__max_tokens=512,
            **names, **settings,
        )  # fmt: skip
        with worker.start():
            worker.wait_processed(len(TEXTS), timeout=300)
            counted = {
                reason: worker.metric("worker_abstained_total", reason=reason)
                for reason in ABSTAIN_REASONS
            }
            _, scrape = worker.get("/metrics")
            assert worker.stop() == 0
        assert committed(kafka, names["input_topic"]) == end_offsets(kafka, names["input_topic"])
        outputs = read_all(kafka, names["output_topic"], "read_committed")
        values = sorted((json.loads(one.value) for one in outputs), key=lambda value: value["id"])
        assert [value["id"] for value in values] == list(range(len(TEXTS)))
        return SimpleNamespace(
            values=values,
            counted=counted,
            series=re.findall(r"^worker_abstained_total\{.*", scrape, re.MULTILINE),
            loaded=[line for line in worker.events() if line["event"] == "model_loaded"],
        )

    return label


def test_two_processes_abstain_where_the_thresholds_say_and_count_each_label_once(
    labelled, thresholds, expected
):
    found = labelled(processes=2, model__abstain="true", delivery__guarantee="exactly_once")
    schema = {**messages(), "oneOf": [{"$ref": "#/$defs/output"}]}
    validator = jsonschema.Draft202012Validator(schema)
    for value in found.values:
        validator.validate(value)
        assert ("abstained" in value) == ("abstained_because" in value)
    assert [value.get("abstained_because") for value in found.values] == expected
    assert all(expected.count(reason) >= 5 for reason in (None, *ABSTAIN_REASONS))
    assert found.counted == {reason: expected.count(reason) for reason in ABSTAIN_REASONS}
    assert len(found.series) == 4  # both reasons of both processes
    assert len(found.loaded) == 2
    for line in found.loaded:
        assert line["abstains_below_score"] == thresholds["score"]
        assert line["abstains_above_energy"] == thresholds["energy"]


def test_a_worker_that_was_not_told_to_abstain_leaves_the_thresholds_alone(labelled):
    found = labelled()
    members = {"id", "label", "score", "scores", "model", "source"}
    assert all(value.keys() == members for value in found.values)
    assert found.series == []
    (loaded,) = found.loaded
    assert not [name for name in loaded if name.startswith("abstains")]
