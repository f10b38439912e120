"""A checkpoint's tokenizer: the end of a text where it truncates on the left, and older files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support import tiny
from tests.support.lazy import Lazy
from worker.errors import Refused
from worker.model.checkpoint import read
from worker.model.prefix import PrefixTokenizer
from worker.model.tokenizer import load_tokenizer, padding_side

transformers, classifiers = Lazy("transformers"), Lazy("worker.model.load")

FILLER = "i feel so happy today and the my was at home about it . " * 2_000


@pytest.fixture
def copy(untrained, tmp_path):
    return shutil.copytree(untrained, tmp_path / "copy")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def left(copy, *, baked=False):
    """The same checkpoint with a tokenizer that truncates on the left."""
    if baked:  # in tokenizer.json, where tokenizer_config.json says nothing
        tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
        tokenizer.enable_truncation(48, direction="left")
        tokenizer.save(str(copy / "tokenizer.json"))
    else:
        edit(copy / "tokenizer_config.json", truncation_side="left")
    return copy


@pytest.mark.heavy
@pytest.mark.parametrize("baked", [True, False])
@pytest.mark.parametrize(
    "text", [FILLER + "grief", "grief " + FILLER, "grief", FILLER, "x" * 9_000]
)
def test_the_end_of_a_text_counts_where_the_tokenizer_truncates_on_the_left(copy, text, baked):
    checkpoint = read(left(copy, baked=baked))
    tokenizer = PrefixTokenizer(load_tokenizer(checkpoint), max_length=checkpoint.max_length)
    theirs = transformers.AutoTokenizer.from_pretrained(copy)
    assert theirs.truncation_side == "left"
    expected = theirs(text, truncation=True, max_length=checkpoint.max_length)["input_ids"]
    ((ids, cut),) = tokenizer.encode([text])
    assert list(ids) == expected
    assert cut == (len(theirs(text)["input_ids"]) > checkpoint.max_length)


@pytest.mark.heavy
def test_scores_are_those_of_a_texts_end(copy, one_thread):
    model = classifiers.load(path=left(copy), device="cpu", dtype="float32", threads=1)
    scores = model.run(
        [ids for ids, _ in model.tokenize([FILLER + "grief", FILLER, "wow " + FILLER])]
    )
    assert np.abs(scores[1] - scores[2]).max() < 1e-5
    assert np.abs(scores[1] - scores[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["truncation_side", "padding_side"])
def test_a_side_that_is_none_is_refused(copy, name):
    edit(copy / "tokenizer_config.json", **{name: "center"})
    with pytest.raises(Refused, match=f"{name} in .* is neither left nor right"):
        load_tokenizer(read(copy)), padding_side(copy)


def older(copy):
    """The same checkpoint with vocab.txt in place of tokenizer.json."""
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("".join(f"{token}\n" for token in tiny._vocabulary()))
    return copy


@pytest.mark.heavy
def test_a_checkpoint_with_vocab_txt_has_the_scores_of_one_with_tokenizer_json(
    untrained, copy, one_thread
):
    texts = [text for text, _ in tiny.sentences(12, seed=9)]
    made, whole = (
        classifiers.load(path=path, device="cpu", dtype="float32", threads=1)
        for path in (older(copy), untrained)
    )
    assert made.tokenize(texts) == whole.tokenize(texts)
    # Not bit for bit: each load takes the kernels that were faster when it measured them.
    assert np.allclose(made.reference(), whole.reference(), rtol=0, atol=1e-6)
    assert made.version != whole.version


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", ["spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"]
)
def test_files_of_which_no_tokenizer_can_be_made_are_one_line(copy, name, capfd):
    (copy / "tokenizer.json").unlink()
    (copy / name).write_bytes(b"\x0a\x0e\n\xff no vocabulary")
    kind = {"spm.model": "deberta-v2", "spiece.model": "t5", "vocab.txt": "bert"}
    edit(copy / "config.json", model_type=kind.get(name, "xlm-roberta"))
    edit(copy / "tokenizer_config.json", tokenizer_class=None)
    with pytest.raises(Refused, match=f"cannot make one of {name}") as caught:
        load_tokenizer(read(copy))
    assert "\n" not in str(caught.value)
    assert "save_pretrained" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_vocabulary_that_is_a_directory_is_no_file(copy):
    (copy / "tokenizer.json").unlink()
    (Path(copy) / "vocab.txt").mkdir()
    with pytest.raises(Refused, match=r"has no tokenizer\.json"):
        read(copy)
