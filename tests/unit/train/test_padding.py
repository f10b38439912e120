"""On which side rows are padded: where the model does not see it, or the model is refused."""

import numpy as np
import pytest

from tests.support.lazy import Lazy
from train import padding
from train.errors import Refused

mates = Lazy("worker.model.mates")


def logits(sees, *, scale=1.0):
    """A model that adds up the lengths of a batch's texts where it sees padding."""

    def run(texts, side):
        longest = max(map(len, texts))
        own = np.array([[len(text) % 7, -len(text) % 5] for text in texts], dtype=float)
        padded = np.array([[longest - len(text), 0] for text in texts], dtype=float)
        return scale * (own + (padded if side in sees else 0))

    return run


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("asked", ["left", "right"])
@pytest.mark.parametrize(
    ("sees", "expected"),
    [((), None), (("left",), "right"), (("right",), "left")],
)
def test_the_side_is_the_tokenizers_unless_the_model_sees_it(asked, sees, expected, scale):
    found = padding.choose_side(logits(sees, scale=scale), asked=asked, precision="float32")
    assert found == (expected or asked)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_model_that_sees_it_on_both_sides_is_refused(precision):
    with pytest.raises(Refused, match="depend on the texts that share its batch") as caught:
        padding.choose_side(logits(("left", "right")), asked="right", precision=precision)
    assert "\n" not in str(caught.value)


def test_texts_of_several_lengths_are_compared_and_the_longest_pads_the_others():
    lengths = [len(text) for text in padding.SAMPLES]
    assert lengths == sorted(set(lengths))
    assert len(lengths) > 5


@pytest.mark.heavy
def test_worker_and_trainer_tell_rounding_from_padding_alike():
    assert padding.SHARE["float32"] == mates.SHARE
    assert padding.ROUNDING["float32"] == mates.ROUNDING
    assert set(padding.SAMPLES) <= set(mates.SAMPLES)
    source = np.random.default_rng(0)
    for size in (0.0, 1e-6, 1e-4, 1e-2, 1.0, np.nan):
        alone = source.normal(size=(7, 3)).astype(np.float32)
        together = alone + np.float32(size)
        ours = padding.difference(together, alone, rounding=mates.ROUNDING)
        assert ours == pytest.approx(mates.difference(together, alone))
