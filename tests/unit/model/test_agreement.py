"""What worker and trainer both know: neither imports the other, so here the two are compared.

Where transformers or torch decides, both are also held against the library.
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.support.fakes import record
from tests.support.lazy import Lazy
from tests.unit.model.test_checkpoint import LABELS, write
from train import lengths as train_lengths
from train import machine, manifest
from train.dataset import check_text
from train.errors import Refused as TrainRefused
from worker.decode import Decoder
from worker.errors import Refused
from worker.given import positions as given_positions
from worker.model import configuration
from worker.model.checkpoint import read
from worker.records import Document

torch, transformers = Lazy("torch"), Lazy("transformers")
calibrate, classify = Lazy("train.calibrate"), Lazy("train.classify")
base_models, freeze = Lazy("train.encoder"), Lazy("train.freeze")
loads = Lazy("worker.model.load")
classifiers, device = Lazy("worker.model.classifier"), Lazy("worker.model.device")
families = Lazy("worker.model.families")

REFUSED = "refused"
KNOWN = sorted(given_positions.OFFSET_POSITIONS)
"""Families of which either package says that their positions start behind the padding id."""
PLAIN = [
    "albert",
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "gpt2",
    "mobilebert",
    "openai-gpt",
]
"""Some of which neither says so."""
SIZES = {
    "vocab_size": 60,
    "hidden_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
}
PECULIAR = {
    "layoutlmv3": {"coordinate_size": 8, "shape_size": 8, "visual_embed": False},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 32},
    "xmod": {"languages": ("en_XX",), "default_language": "en_XX"},
}
"""Settings without which these are large, or cannot run on text alone."""


def answer(question):
    """What a package answers; a refusal is an answer."""
    try:
        return question()
    except (Refused, TrainRefused):
        return REFUSED


# How long a text may be.


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [*KNOWN, *PLAIN])
def test_a_text_that_is_let_through_is_the_longest_that_transformers_takes(kind):
    """One token more is an index error there."""
    for pad in (0, 1, 3):
        options = {**SIZES, "pad_token_id": pad, **PECULIAR.get(kind, {})}
        config = transformers.AutoConfig.for_model(kind, **options)
        model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
        longest = given_positions.positions(config.to_dict(), pad)
        assert runs(model, longest), (kind, pad)
        assert not runs(model, longest + 1), (kind, pad)


def runs(model, length):
    ids = torch.full((2, length), 7)
    try:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.heavy
def test_every_family_of_transformers_whose_positions_start_behind_the_padding_id_is_known():
    """A new release may bring one; it computes them by one of these two expressions."""
    auto = transformers.models.auto.modeling_auto
    found = set()
    for kind in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        folder = transformers.models.auto.configuration_auto.model_type_to_module_name(kind)
        name = f"transformers.models.{folder}.modeling_{kind.replace('-', '_')}"
        spec = importlib.util.find_spec(name)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec else ""
        if "create_position_ids_from_input_ids" in source or "padding_idx + 1" in source:
            found.add(kind)
    assert found == set(KNOWN)


NO_LENGTHS = [0, -5, "abc", [1], True, math.nan, 0.5]
LENGTHS = [
    *(({}, {"model_max_length": value}, {}) for value in (None, 128, 64.7, 1e30, math.inf)),
    *(({}, {"model_max_length": value}, {}) for value in NO_LENGTHS),
    *(({}, {"model_max_length": value}, {"max_length": 96}) for value in (64, 1e30, "abc")),
    *(({}, {}, {"max_length": value}) for value in (None, 3, 96, 513, 10_000)),
    *(({}, {}, {"max_length": value}) for value in (0, -1, 1, 2, "96", 96.0, 96.5, True, [])),
    *(({"max_position_embeddings": value}, {}, {}) for value in (None, -1, 2, 20, 513, 4_096)),
    *(({"max_position_embeddings": 20}, {}, {"max_length": value}) for value in (19, 20, 21)),
    *(
        ({"model_type": kind, "max_position_embeddings": 20, "pad_token_id": pad}, {}, asked)
        for kind in KNOWN
        for pad in (0, 1, 3)
        for asked in ({}, {"max_length": 19})
    ),
]


@pytest.mark.parametrize(("config", "tokenizer", "facts"), LENGTHS)
def test_both_cut_the_texts_of_a_checkpoint_at_the_same_length(tmp_path, config, tokenizer, facts):
    path = write(tmp_path / "c", config=config, tokenizer_config=tokenizer, manifest=facts)
    values = json.loads((path / "config.json").read_text())

    def of_trainer():
        asked = manifest.read(path).max_length
        return train_lengths.of_checkpoint(path, values, asked=asked)

    assert answer(lambda: read(path).max_length) == answer(of_trainer)


@pytest.mark.heavy
def test_both_give_the_model_the_same_tokens_of_texts_of_any_length(untrained):
    """The worker tokenizes a prefix of a long text, the trainer all of it."""
    trainer = classify.load(untrained, on=machine.choose("cpu", "float32"))
    worker = loads.load(path=untrained, device="cpu", dtype="float32", threads=1)
    units = [
        "happy ",
        "i feel, so. ",
        "!",
        "今天\uff0c天",
        "cried",
        "\U0001f600",
        "e\u0301",
        "[MASK]",
    ]
    texts = [unit * (size // len(unit)) for unit in units for size in (50, 2_000, 40_000)]
    tokens = [each.ids for each in trainer.tokenizer.encode_batch_fast(texts)]
    assert [list(ids) for ids, _ in worker.tokenize(texts)] == tokens
    assert max(map(len, tokens)) == worker.checkpoint.max_length


# Scores.


@pytest.mark.heavy
@pytest.mark.parametrize("temperature", [0.01, 0.25, 0.7, 1.0, 1.3, 2.0, 10.0, 1e3, 1e6])
def test_both_make_the_same_scores_of_logits(temperature):
    drawn = np.random.default_rng(0).normal(size=(200, 6))
    for logits in (drawn, drawn * 30, np.zeros((3, 6)), np.eye(6) * 1e4, -np.eye(6) * 1e4):
        worker = classifiers.probabilities(torch.from_numpy(logits), temperature).numpy()
        trainer = calibrate.probabilities(logits, temperature)
        assert worker.shape == trainer.shape
        assert np.abs(worker - trainer).max() < 1e-5
        assert np.abs(trainer.sum(axis=1) - 1).max() < 1e-12


TEMPERATURES = [1, 0.25, 10.0, 1e6, 1e-3, 0, -1, 1e7, math.nan, math.inf, "1.5", True, None, [1]]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_both_take_the_same_temperatures(tmp_path, temperature):
    path = write(tmp_path / "c", manifest={"temperature": temperature})
    worker = answer(lambda: read(path).temperature)
    assert worker == answer(lambda: manifest.read(path).temperature)
    assert (worker == REFUSED) is not (temperature in TEMPERATURES[:5] and temperature is not True)


def test_without_a_manifest_both_have_the_same_defaults(tmp_path):
    path = write(tmp_path / "c")
    worker, trainer = read(path), manifest.read(path)
    assert (worker.name, worker.temperature) == (trainer.name, trainer.temperature)


# Precision.

CUDA = [(6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0)]
CPU = [{}, {"avx512_f": True}, {"avx512_bf16": True}, {"amx_bf16": True}, {"bf16": True}]
MACHINES = [*((None, has) for has in CPU), *((capability, {}) for capability in CUDA)]


@pytest.mark.heavy
@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("place", ["auto", "cpu", "cuda"])
@pytest.mark.parametrize(("capability", "has"), MACHINES)
def test_both_compute_in_the_same_precision(monkeypatch, capability, has, place, asked):
    monkeypatch.setattr("torch.cuda.is_available", lambda: capability is not None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: capability)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has)

    def of_worker():
        chosen = device.choose_device(place)
        return chosen.type, str(device.choose_dtype(asked, chosen)).removeprefix("torch.")

    def of_trainer():
        on = machine.choose(place, asked)
        return on.device, on.precision

    worker, trainer = answer(of_worker), answer(of_trainer)
    if worker == ("cpu", "float16"):
        # The one difference: the worker compares the scores with float32's and refuses by them;
        # a training in float16 has to scale its gradients, which the Trainer does on CUDA alone.
        assert trainer == REFUSED
    else:
        assert worker == trainer


@pytest.mark.heavy
def test_both_take_the_batch_that_is_fastest_on_a_cpu():
    assert classify.TOKEN_BUDGET["cpu"] == classifiers.CPU_LIMITS.max_tokens


# What config.json says.

CONFIGS = [
    {"id2label": None},
    {"id2label": None, "num_labels": 3},
    {"id2label": {str(i): f"label {i}" for i in reversed(range(12))}},
    {"id2label": {"0": "joy", "1": "love", "2": "joy"}},
    {"id2label": {"0": "joy", "2": "love"}},
    {"id2label": {"1": "joy", "2": "love"}},
    {"id2label": {"0": "LABEL_0"}, "problem_type": None},
    *({"problem_type": kind} for kind in (None, "single_label_classification")),
    *({"problem_type": kind} for kind in ("regression", "multi_label_classification")),
]


@pytest.mark.heavy
@pytest.mark.parametrize("config", CONFIGS)
def test_both_read_the_same_labels(tmp_path, config):
    path = write(tmp_path / "c", config=config)
    theirs = transformers.AutoConfig.from_pretrained(path)
    worker = answer(lambda: configuration.read(path).labels)
    assert worker == answer(lambda: classify._labels(path, theirs, manifest.Manifest()))


@pytest.mark.parametrize("labels", [list(LABELS), list(LABELS[::-1]), ["a", "b", "c"], [], "abc"])
@pytest.mark.heavy
def test_both_refuse_a_manifest_of_other_labels(tmp_path, labels):
    path = write(tmp_path / "c", manifest={"labels": labels})
    theirs = transformers.AutoConfig.from_pretrained(path)
    worker = answer(lambda: read(path).labels)
    assert worker == answer(lambda: classify._labels(path, theirs, manifest.read(path)))


@pytest.mark.heavy
def test_a_familys_names_are_those_of_transformers():
    for kind, names in families.FAMILIES.items():
        config = transformers.AutoConfig.for_model(kind, **SIZES)
        found = base_models.Encoder(
            name=kind, model=Model(config), tokenizer=None, max_length=8
        ).hidden_size
        assert found == config.to_dict()[names.width] == 48
    for kind in freeze.KNOWN:
        assert families.FAMILIES[kind].layer == "encoder.layer"
        assert hasattr(classifier(kind).base_model.encoder, "layer")


class Model:
    def __init__(self, config):
        self.config = config


def classifier(kind):
    config = transformers.AutoConfig.for_model(kind, **SIZES, pad_token_id=1)
    return transformers.AutoModelForSequenceClassification.from_config(config)


# Which texts can be labelled.


@pytest.mark.parametrize(
    "text", ["happy", " \t\n", "", "\u2003", "\u200b", "\0", "\ud83d", "caf\u00e9", 5, None, ["a"]]
)
def test_both_take_the_same_texts(text):
    decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=1 << 20)
    found = decoder.decode(record(0, json.dumps({"text": text}).encode()))
    taken = found.text if isinstance(found, Document) else REFUSED
    assert taken == answer(lambda: check_text(text, at="row 1"))
