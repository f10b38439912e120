"""The maximum length that suits the texts of `train`."""

import pytest

from train import lengths


@pytest.mark.parametrize(
    ("counts", "most", "length"),
    [
        ([5] * 100, 512, 128),
        ([5] * 100, 64, 64),
        ([200] * 100, 512, 200),
        ([201] * 100, 512, 208),
        ([20] * 998 + [180, 400], 512, 184),
        ([20] * 999 + [400], 512, 128),
        ([20] * 99 + [400], 512, 400),
        ([3_000] * 10, 512, 512),
        ([300], 514, 304),
    ],
)
def test_the_length_fits_999_of_1000_texts_within_its_bounds(counts, most, length):
    assert lengths.by_data(counts, most=most) == length
    assert lengths.by_data(counts[::-1], most=most) == length


def test_the_tokens_of_a_few_texts_are_all_counted():
    texts = ("b", "a")
    assert lengths.counted_of(texts, seed=1) is texts


def test_of_many_texts_as_many_are_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr(lengths, "COUNTED", 20)
    texts = tuple(map(str, range(1_000)))
    one, again, other = (lengths.counted_of(texts, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == 20
    assert set(one) <= set(texts)
