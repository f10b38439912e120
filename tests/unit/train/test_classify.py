"""Loading checkpoints, and labels that do not depend on the company of a text."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.support import tiny
from tests.support.families import SEEN, SERVED, family
from tests.support.lazy import Lazy
from train.errors import Refused
from train.machine import Machine

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

classify, transformers = Lazy("train.classify"), Lazy("transformers")
safetensors = Lazy("safetensors.torch")

ON = Machine(device="cpu", name="CPU", precision="float32")
TEXTS = [text for text, _ in tiny.sentences(60, seed=9)]


@pytest.fixture
def checkpoint(tmp_path, untrained):
    return shutil.copytree(untrained, tmp_path / "c")


def edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_scores_without_a_manifest_are_those_of_a_plain_pipeline(checkpoint):
    scores = classify.load(checkpoint, on=ON).scores(TEXTS)
    plain = transformers.pipeline("text-classification", model=str(checkpoint), top_k=None)(TEXTS)
    for row, answers in zip(scores, plain, strict=True):
        expected = {answer["label"]: answer["score"] for answer in answers}
        assert dict(zip(tiny.LABELS, row, strict=True)) == pytest.approx(expected, abs=1e-5)


def test_a_temperature_changes_scores_and_no_label(checkpoint):
    plain = classify.load(checkpoint, on=ON).scores(TEXTS)
    (checkpoint / "manifest.json").write_text('{"temperature": 3}')
    cooler = classify.load(checkpoint, on=ON).scores(TEXTS)
    assert (cooler.argmax(axis=1) == plain.argmax(axis=1)).all()
    assert (cooler.max(axis=1) < plain.max(axis=1)).all()


def test_a_text_gets_the_same_scores_alone_and_in_any_batch(checkpoint, monkeypatch):
    classifier = classify.load(checkpoint, on=ON)
    together = classifier.scores(TEXTS)
    alone = np.vstack([classifier.scores([text]) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-5)
    monkeypatch.setitem(classify.TOKEN_BUDGET, "cpu", 64)
    assert classifier.scores(TEXTS) == pytest.approx(alone, abs=1e-5)


def test_a_call_of_the_tokenizer_takes_a_portion_of_the_texts(checkpoint, monkeypatch):
    classifier = classify.load(checkpoint, on=ON)
    whole = classifier.scores(TEXTS)
    calls = []

    class Tokenizer:
        def encode_batch_fast(self, texts):
            calls.append(len(texts))
            return classifier.tokenizer.encode_batch_fast(texts)

    monkeypatch.setattr("train.classify.PORTION_TEXTS", 25)
    found = dataclasses.replace(classifier, tokenizer=Tokenizer()).scores(TEXTS)
    assert calls == [25, 25, 10]
    assert found == pytest.approx(whole, abs=1e-6)
    assert (found.argmax(axis=1) == whole.argmax(axis=1)).all()
    assert classifier.scores([]).shape == (0, len(tiny.LABELS))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_that_are_not_finite_are_refused(checkpoint, monkeypatch, precision):
    on = Machine(device="cpu", name="", precision=precision)
    classifier = classify.load(checkpoint, on=on)
    healthy = type(classifier)._run

    def spoiled(self, encodings, side):
        logits = healthy(self, encodings, side)
        logits[[len(encoding.ids) > 12 for encoding in encodings], 3] = np.inf
        return logits

    monkeypatch.setattr("train.classify.Classifier._run", spoiled)
    lengths = [len(encoding.ids) for encoding in classifier.tokenizer.encode_batch(TEXTS)]
    wrong = [row for row, length in enumerate(lengths, start=1) if length > 12]
    assert 0 < len(wrong) < len(TEXTS)
    with pytest.raises(Refused) as refused:
        classifier.logits(TEXTS)
    assert str(refused.value).startswith(
        f"the logits of {len(wrong)} texts of 60 are not finite (text {wrong[0]}, for one)"
    )
    # Advice that is followed already would help nobody.
    assert ("--precision float32" in str(refused.value)) == (precision != "float32")


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [([1] * 7, [3, 3, 1]), ([4, 7, 1], [1, 2]), ([50, 1, 1], [1, 2]), ([3, 3, 4, 9], [3, 1])],
)
def test_a_portion_keeps_both_limits_or_is_one_text(monkeypatch, lengths, sizes):
    monkeypatch.setattr("train.classify.PORTION_TEXTS", 3)
    monkeypatch.setattr("train.classify.PORTION_CHARACTERS", 10)
    texts = ["x" * length for length in lengths]
    parts = [texts[portion] for portion in classify.portions(texts)]
    assert [len(part) for part in parts] == sizes
    assert [text for part in parts for text in part] == texts


def test_batches_keep_the_budget_and_hold_every_row_once():
    lengths = [5, 90, 7, 8, 3, 200, 9, 9]
    found = list(classify.batches(lengths, 40))
    assert sorted(row for batch in found for row in batch) == list(range(8))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 40


def test_a_text_longer_than_the_model_is_cut(checkpoint):
    classifier = classify.load(checkpoint, on=ON)
    assert classifier.max_length == tiny.POSITIONS
    assert classifier.scores(["happy " * 500]).shape == (1, 6)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("config.json", "there is no config.json in it"),
        ("tokenizer.json", r"there is no tokenizer\.json in it"),
        ("model.safetensors", "there are no weights in it"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(checkpoint, file, line):
    (checkpoint / file).unlink()
    with pytest.raises(Refused, match=line):
        classify.load(checkpoint, on=ON)


def test_damaged_files_are_refused_in_one_line(checkpoint):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Refused, match="damaged"):
        classify.load(checkpoint, on=ON)
    (checkpoint / "tokenizer.json").write_text("{")
    with pytest.raises(Refused) as refused:
        classify.load(checkpoint, on=ON)
    assert len(str(refused.value).splitlines()) == 1


def test_a_model_without_a_trained_head_is_refused(checkpoint):
    weights = checkpoint / "model.safetensors"
    kept = {
        k: v for k, v in safetensors.load_file(weights).items() if not k.startswith("classifier")
    }
    safetensors.save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(Refused, match=r"the weights lack classifier\.bias: .*fine-tune it first"):
        classify.load(checkpoint, on=ON)


def test_a_tensor_that_the_library_would_pass_over_is_refused(checkpoint):
    tensors = safetensors.load_file(checkpoint / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    tensors[name] = tensors["classifier.bias"].clone()
    safetensors.save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refused, match=f"transformers has no place for {name}"):
        classify.load(checkpoint, on=ON)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_heads_of_other_kinds_are_refused(checkpoint, kind):
    edit(checkpoint / "config.json", problem_type=kind)
    with pytest.raises(Refused, match=f"is for {kind}; one label of several is needed"):
        classify.load(checkpoint, on=ON)


def test_a_manifest_of_another_model_is_refused(checkpoint):
    (checkpoint / "manifest.json").write_text('{"labels": ["yes", "no"]}')
    with pytest.raises(Refused, match="differ in labels"):
        classify.load(checkpoint, on=ON)


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Refused, match="there is no directory"):
        classify.load(tmp_path / "none", on=ON)


@pytest.mark.parametrize("kind", SERVED)
def test_a_text_gets_the_same_scores_alone_and_in_any_batch_of_every_family(tmp_path, kind):
    classifier = classify.load(family(tmp_path / kind, kind, **SERVED[kind]), on=ON)
    texts = TEXTS[:12]
    alone = np.vstack([classifier.scores([text]) for text in texts])
    assert alone.std(axis=0).max() > 0.05
    assert classifier.scores(texts) == pytest.approx(alone, abs=1e-5)
    plain = transformers.pipeline("text-classification", model=str(tmp_path / kind), top_k=None)
    for row, answers in zip(alone, plain(texts[:4]), strict=False):
        expected = {answer["label"]: answer["score"] for answer in answers}
        assert dict(zip(tiny.LABELS, row, strict=True)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_end_of_sequence_token_in_a_text_harms_neither_it_nor_its_mates(tmp_path, kind):
    classifier = classify.load(family(tmp_path / kind, kind, **SERVED[kind]), on=ON)
    texts = [TEXTS[0], "[SEP]", "so [SEP] happy", "[SEP] [SEP] i feel", *TEXTS[1:4]]
    alone = np.vstack([classifier.scores([text]) for text in texts])
    assert classifier.scores(texts) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", SEEN)
def test_a_checkpoint_that_sees_padding_is_refused(tmp_path, kind):
    path = family(tmp_path / kind, kind, **SEEN[kind])
    with pytest.raises(Refused, match="depend on the texts that share its batch"):
        classify.load(path, on=ON)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_rounding_of_a_reduced_precision_is_no_padding(checkpoint, precision):
    classify.load(checkpoint, on=Machine(device="cpu", name="CPU", precision=precision))


def test_the_end_of_a_text_counts_where_the_tokenizer_truncates_on_the_left(checkpoint):
    long = "i feel so happy today " * 40
    edit(checkpoint / "tokenizer_config.json", truncation_side="left")
    scores = classify.load(checkpoint, on=ON).scores([f"{long} grief", long, f"wow {long}"])
    assert scores[1] == pytest.approx(scores[2], abs=1e-6)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_a_checkpoint_with_vocab_txt_has_the_scores_of_one_with_tokenizer_json(checkpoint):
    expected = classify.load(checkpoint, on=ON).scores(TEXTS)
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.txt").write_text("".join(f"{token}\n" for token in tiny._vocabulary()))
    assert classify.load(checkpoint, on=ON).scores(TEXTS) == pytest.approx(expected, abs=1e-6)
    (checkpoint / "vocab.txt").rename(checkpoint / "spm.model")
    edit(checkpoint / "tokenizer_config.json", tokenizer_class="DebertaV2Tokenizer")
    with pytest.raises(Refused, match=r"cannot make one of spm\.model"):
        classify.load(checkpoint, on=ON)


def test_a_padding_id_that_config_json_lacks_is_the_tokenizers(checkpoint):
    expected = classify.load(checkpoint, on=ON).scores(TEXTS)
    edit(checkpoint / "config.json", pad_token_id=None)
    assert classify.load(checkpoint, on=ON).scores(TEXTS) == pytest.approx(expected, abs=1e-6)
    edit(checkpoint / "tokenizer_config.json", pad_token=None)
    with pytest.raises(Refused, match="set pad_token_id in config"):
        classify.load(checkpoint, on=ON)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_weights_of_a_module_around_the_model_are_refused(checkpoint, prefix):
    weights = checkpoint / "model.safetensors"
    renamed = {f"{prefix}{name}": tensor for name, tensor in safetensors.load_file(weights).items()}
    safetensors.save_file(renamed, weights, metadata={"format": "pt"})
    with pytest.raises(Refused, match=r"have the prefix .* save the model inside it"):
        classify.load(checkpoint, on=ON)


def test_an_adapter_is_refused(checkpoint):
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(Refused, match="merge_and_unload"):
        classify.load(checkpoint, on=ON)


@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], None])
def test_a_model_gets_token_types_only_where_its_tokenizer_gives_them(tmp_path, names):
    """GPT-2 adds up the embeddings of tokens and types: types of zero are not the same as none."""
    path = family(tmp_path / "gpt2", "gpt2", **SERVED["gpt2"])
    if names:
        edit(path / "tokenizer_config.json", model_input_names=names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    expected = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits.detach().numpy()
    assert classify.load(path, on=ON).logits(TEXTS[:1]) == pytest.approx(expected, abs=1e-5)
