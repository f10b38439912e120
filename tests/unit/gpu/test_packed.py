"""Rows end to end give the scores of padded rows, in each of the ordinary families."""

import numpy as np
import pytest

from tests.support.families import family
from tests.support.lazy import Lazy
from tests.unit.model.test_encoder import OURS

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch = Lazy("torch")
classifiers, failures = Lazy("worker.model.classifier"), Lazy("worker.model.failures")
packed = Lazy("tests.gpu.packed")
TEXTS = ["i feel happy", "sad", "how angry i am about all of this today, again", "love", "a b c d"]


def loaded(path):
    return classifiers.load(path=path, device="cpu", dtype="float32")


@pytest.mark.parametrize("kind", OURS)
def test_packed_rows_have_the_scores_of_padded_rows(tmp_path, kind):
    model = loaded(family(tmp_path / kind, kind, **OURS[kind]))
    ours = packed.PackedClassifier(model)
    rows = [ids for ids, _ in model.tokenize(TEXTS)]
    assert len({len(row) for row in rows}) > 2
    expected = model.run(rows)
    assert np.abs(expected - expected[0]).max() > 0.01, "all texts have the same scores"
    assert np.abs(ours.run(rows) - expected).max() < 1e-6
    alone = np.concatenate([ours.run([row]) for row in rows])
    assert np.abs(alone - expected).max() < 1e-6


def test_norms_and_sums_in_16_bit_change_the_scores_a_little(tmp_path):
    path = family(tmp_path / "bert", "bert")
    model = classifiers.load(path=path, device="cpu", dtype="bfloat16")
    rows = [ids for ids, _ in model.tokenize(TEXTS)]
    found = packed.PackedClassifier(model, throughout=True).run(rows)
    apart = np.abs(found - loaded(path).run(rows)).max()
    assert 0 < apart < 0.05


def test_a_token_outside_the_vocabulary_is_found_on_the_host(tmp_path):
    ours = packed.PackedClassifier(loaded(family(tmp_path / "bert", "bert")))
    with pytest.raises(failures.InferenceError):
        ours.stage([[1, ours.checkpoint.vocabulary, 2]])


def test_networks_that_others_built_are_not_packed(tmp_path):
    model = loaded(family(tmp_path / "electra", "electra", embedding_size=16))
    with pytest.raises(TypeError, match="only the networks"):
        packed.PackedClassifier(model)
