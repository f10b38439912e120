"""A text has the same scores alone and in a batch, in every family, or the model is refused."""

import json

import numpy as np
import pytest

from tests.support import tiny
from tests.support.families import SEEN, SERVED, family
from tests.support.lazy import Lazy
from worker.errors import Refused

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch, transformers = Lazy("torch"), Lazy("transformers")
encoder = Lazy("worker.model.encoder")
classifiers, mates = Lazy("worker.model.load"), Lazy("worker.model.mates")

CLOSE = 1e-5
TEXTS = [text for text, _ in tiny.sentences(12, seed=9)] + ["ok", "i feel so happy today " * 5]


def make(path, kind, *, spread=0.3, **tokenizer):
    """An untrained classifier; `tokenizer` are entries of its tokenizer_config.json."""
    path = family(path, kind, spread=spread, **(SERVED | SEEN).get(kind, {}))
    edit(path / "tokenizer_config.json", **tokenizer)
    return path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(path):
    model = classifiers.load(path=path, device="cpu", dtype="float32", rows="padded", threads=1)
    model.warm_up(max_records=4, max_tokens=64)
    return model


def together(model):
    return model.run([ids for ids, _ in model.tokenize(TEXTS)])


def alone_by_the_library(path, model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    options = {"truncation": True, "max_length": model.checkpoint.max_length}
    with torch.inference_mode():
        found = [network(**tokenizer(text, return_tensors="pt", **options)) for text in TEXTS]
    return torch.cat([one.logits for one in found]).softmax(dim=-1).numpy()


@pytest.mark.parametrize("kind", SERVED)
def test_a_batch_has_the_scores_that_the_library_gives_to_each_text_alone(tmp_path, kind):
    path = make(tmp_path / kind, kind)
    model = load(path)
    expected = alone_by_the_library(path, model)
    assert expected.std(axis=0).max() > 0.05, "the texts' scores hardly differ"
    assert np.abs(together(model) - expected).max() < CLOSE


@pytest.mark.parametrize("side", ["left", "right", None])
def test_a_model_that_reads_the_last_place_is_padded_on_the_left_whatever_is_asked(tmp_path, side):
    path = make(tmp_path / "xlnet", "xlnet", **({} if side is None else {"padding_side": side}))
    model = load(path)
    assert model.padded.side == "left"
    assert np.abs(together(model) - alone_by_the_library(path, model)).max() < CLOSE


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_a_model_that_reads_the_first_place_is_padded_on_the_right_whatever_is_asked(
    tmp_path, kind
):
    path = make(tmp_path / kind, kind, padding_side="left")
    model = load(path)
    assert model.padded.side == "right"
    assert np.abs(together(model) - alone_by_the_library(path, model)).max() < CLOSE


def test_a_model_that_bears_both_sides_is_padded_as_its_tokenizer_says(tmp_path):
    model = load(make(tmp_path / "llama", "llama", padding_side="left"))
    ids, mask, *_ = model.stage([[2, 20, 3], [2, 3]]).tensors
    assert ids.tolist() == [[2, 20, 3], [0, 2, 3]]
    assert mask.tolist() == [[1, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize("spread", [0.3, None])
@pytest.mark.parametrize("kind", SEEN)
def test_a_model_that_sees_padding_is_refused_in_one_line(tmp_path, kind, spread):
    """Also one as transformers draws it, whose logits hardly differ."""
    path = make(tmp_path / kind, kind, spread=spread)
    with pytest.raises(Refused, match="depend on the texts that share its batch") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spread", [0.3, None])
def test_every_checkpoint_is_compared_also_those_built_here(tmp_path, monkeypatch, spread):
    """A network of ours that forgets the mask."""
    path = make(tmp_path / "bert", "bert", spread=spread)
    load(path)
    forward = encoder.SequenceClassifier.forward
    monkeypatch.setattr(
        encoder.SequenceClassifier,
        "forward",
        lambda self, input_ids, **_: forward(self, input_ids, None),
    )
    with pytest.raises(Refused, match="depend on the texts that share its batch"):
        load(path)


def test_what_is_rounding_and_what_is_not():
    alone = np.array([[1.0, -1.0], [3.0, -2.0], [2.0, 0.0]], dtype=np.float32)
    assert mates.difference(alone + 1e-5, alone) == 0
    assert mates.difference(alone + 0.5, alone) > mates.SHARE
    assert mates.difference(np.full_like(alone, np.nan), alone) == float("inf")
    # Another check says so of a model whose logits are no numbers at all.
    assert mates.difference(alone, np.full_like(alone, np.nan)) == 0
    same = np.ones_like(alone)
    assert mates.difference(same, same) == 0
    assert mates.difference(same + 0.1, same) == float("inf")


def test_texts_of_several_lengths_are_compared():
    words = {len(text.split()) for text in mates.SAMPLES}
    assert len(words) >= 5
    assert max(words) > 20 * min(words)


def test_token_types_are_those_of_the_place(tmp_path):
    """As in the tokenizers of Funnel and of XLNet before release 5: the class token has its own."""
    path = make(tmp_path / "electra", "electra", model_input_names=["input_ids", "token_type_ids"])
    content = json.loads((path / "tokenizer.json").read_text())
    content["post_processor"]["single"][0]["SpecialToken"]["type_id"] = 1
    (path / "tokenizer.json").write_text(json.dumps(content))
    edit(path / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    model = load(path)
    _, _, types = model.stage([ids for ids, _ in model.tokenize(["i feel happy", "ok"])]).tensors
    assert types.tolist() == [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert np.abs(together(model) - alone_by_the_library(path, model)).max() < CLOSE


ENDS = ("[SEP]", "so [SEP] happy", "[SEP][SEP] my father died today", "i feel [SEP]")
"""Texts in which the tests' end-of-sequence token is written."""


@pytest.mark.parametrize("kind", SERVED)
def test_an_end_of_sequence_token_in_a_text_harms_neither_it_nor_its_mates(
    tmp_path, kind, monkeypatch
):
    """BART and T5 refuse a batch of rows with different numbers of it."""
    path = make(tmp_path / kind, kind)
    model = load(path)
    monkeypatch.setattr(f"{__name__}.TEXTS", [TEXTS[0], *ENDS, *TEXTS[1:]])
    expected = alone_by_the_library(path, model)
    assert np.abs(together(model) - expected).max() < CLOSE
