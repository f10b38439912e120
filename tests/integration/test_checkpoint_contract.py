"""What `emotion-train` saves, everybody reads alike: transformers, `predict`, and the worker."""

import json
import shutil

import numpy as np
import pytest

from tests.support import models, tiny
from tests.support.fakes import record
from tests.support.lazy import Lazy
from train import machine
from train.__main__ import main
from worker.decode import Decoder
from worker.encode import Encoder
from worker.errors import Refused
from worker.records import Encoded, MicroBatch
from worker.stages.inference import Inference, stage

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch, transformers = Lazy("torch"), Lazy("transformers")
classify, classifier = Lazy("train.classify"), Lazy("worker.model.load")

TEXTS = [
    *(text for text, _ in tiny.sentences(36, seed=7)),
    *("My first child is born!", "My father died today", "Go and clean up your room"),
    *("happy " * 200, "caf\u00e9 \u2764\ufe0f", "?"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint that `emotion-train run` wrote."""
    return models.tiny_models(tmp_path_factory) / "trained"


@pytest.fixture(scope="module")
def manifest(trained):
    return json.loads((trained / "manifest.json").read_text())


@pytest.fixture(scope="module")
def worker(trained):
    """The worker's classifier, as `emotion-worker run` loads it."""
    return classifier.load(path=trained, device="cpu", dtype="float32", threads=1)


@pytest.fixture
def predicted(trained, capsys):
    """The lines of `emotion-train predict --json`."""
    arguments = ["--checkpoint", str(trained), "--json", "--device", "cpu"]
    capsys.readouterr()
    assert main(["predict", *arguments, *TEXTS]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def labelled(worker, texts):
    """Output values of the worker's own stages, from record bytes to record bytes."""
    decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=1 << 20)
    encoder = Encoder(
        output_topic="emotions",
        dlq_topic="tweets.dlq",
        output_partitions=1,
        labels=worker.labels,
        model_name=worker.name,
        model_version=worker.version,
    )
    inference = Inference(classifier=worker, on_error=[].append)
    items = []
    for offset, text in enumerate(texts):
        document = decoder.decode(record(offset, json.dumps({"text": text, "id": offset}).encode()))
        items.append(Encoded(document, *worker.tokenize([document.text])[0]))
    batch = MicroBatch(tuple(items), "full")
    outcomes = inference.finish(inference.launch(stage(worker, batch)))
    return [json.loads(encoder.encode(outcome).value) for outcome in outcomes]


def test_the_worker_gives_the_labels_and_scores_of_predict(worker, predicted):
    ours = labelled(worker, TEXTS)
    assert [value["label"] for value in ours] == [line["label"] for line in predicted]
    for value, line in zip(ours, predicted, strict=True):
        assert list(value["scores"]) == list(line["scores"])
        assert value["scores"] == pytest.approx(line["scores"], abs=0.01)
        assert value["score"] == pytest.approx(line["score"], abs=0.01)
    assert len({value["label"] for value in ours}) > 3  # else equal labels would say little


def test_plain_transformers_gives_the_same_labels(trained, worker, predicted, manifest):
    plain = transformers.pipeline("text-classification", model=str(trained), top_k=None)(
        TEXTS, truncation=True
    )
    ours = labelled(worker, TEXTS)
    assert [value["label"] for value in ours] == [answers[0]["label"] for answers in plain]
    assert [line["label"] for line in predicted] == [answers[0]["label"] for answers in plain]
    for value, answers in zip(ours, plain, strict=True):
        # transformers knows no temperature: the same logits, before they are cooled.
        cooled = {one["label"]: one["score"] ** (1 / manifest["temperature"]) for one in answers}
        expected = {label: score / sum(cooled.values()) for label, score in cooled.items()}
        assert value["scores"] == pytest.approx(expected, abs=0.01)


def test_the_temperature_matters(manifest):
    # Else the comparisons above would hold for a worker that forgets it.
    assert abs(manifest["temperature"] - 1) > 0.05


def test_the_worker_says_what_the_manifest_says(worker, manifest):
    assert worker.version == manifest["version"]
    assert worker.name == manifest["name"] == "tiny-emotions"
    assert list(worker.labels) == manifest["labels"] == list(tiny.LABELS)
    assert worker.label_shares == manifest["label_distribution"]
    assert worker.checkpoint.temperature == manifest["temperature"]
    assert worker.checkpoint.max_length == manifest["max_length"] == tiny.POSITIONS
    assert labelled(worker, ["happy"])[0]["model"] == {
        "name": "tiny-emotions",
        "version": manifest["version"],
    }


def test_both_cut_a_long_text_at_the_same_token(trained, worker):
    theirs = classify.load(trained, on=machine.choose("cpu", "float32"))
    for text in TEXTS:
        assert theirs.tokenizer.encode(text).ids == list(worker.tokenize([text])[0][0])


def test_without_its_manifest_the_checkpoint_still_labels_alike(trained, worker, tmp_path):
    shutil.copytree(trained, tmp_path / "plain", ignore=shutil.ignore_patterns("manifest.json"))
    plain = classifier.load(path=tmp_path / "plain", device="cpu", dtype="float32", threads=1)
    assert plain.checkpoint.temperature == 1
    assert plain.label_shares is None
    assert [value["label"] for value in labelled(plain, TEXTS)] == [
        value["label"] for value in labelled(worker, TEXTS)
    ]
    assert np.array_equal(
        *([ids for ids, _ in one.tokenize(["happy " * 200])] for one in (plain, worker))
    )


def test_a_checkpoint_damaged_on_its_way_is_refused(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # one bit: it would load, and label
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(Refused, match="damaged"):
        classifier.load(path=copy, device="cpu", dtype="float32", threads=1)
