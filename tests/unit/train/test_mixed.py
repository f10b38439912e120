"""Texts mixed from those of the dataset."""

import itertools

import pytest

from train.mixed import LEFT_OUT, mixed

TEXTS = [" ".join(f"{name}{n}" for n in range(20)) for name in "abcdefgh" * 25]


def test_a_mixed_text_has_the_words_of_one_or_two_texts_in_their_order():
    found = mixed(TEXTS, each=3)
    assert len(found) == 3 * len(TEXTS)
    alone = 0
    for text in found:
        words = text.split()
        names = list(dict.fromkeys(word[0] for word in words))
        assert 1 <= len(names) <= 2
        for name in names:
            numbers = [int(word[1:]) for word in words if word[0] == name]
            assert numbers == sorted(numbers) or len(names) == 1  # joined with itself
        alone += len(names) == 1
    assert 0.4 < alone / len(found) < 0.7  # half of them, and what was joined with its like


def test_a_text_loses_some_words():
    found = [
        [*map(int, text.split())] for text in mixed([" ".join(map(str, range(1_000)))], each=40)
    ]
    gaps = [sum(b - a != 1 for a, b in itertools.pairwise(one)) for one in found]
    shortened = [len(one) for one, many in zip(found, gaps, strict=True) if many > 1]
    assert 10 <= len(shortened) <= 30  # the others are a begin and an end: one gap at most
    assert all(abs(count / 1_000 - (1 - LEFT_OUT)) < 0.05 for count in shortened)


@pytest.mark.parametrize("text", ["word", "\u4eca\u65e5\u306f", "two words"])
def test_short_texts_stay_texts(text):
    assert all(each.split() for each in mixed([text, "some other words"], each=20))


def test_the_same_texts_are_mixed_alike_and_others_are_not():
    assert mixed(TEXTS, each=2) == mixed(TEXTS, each=2)
    assert mixed(TEXTS, each=2)[: len(TEXTS)] == mixed(TEXTS, each=1)
    assert mixed(TEXTS, each=1) != mixed(TEXTS[::-1], each=1)
    assert len(set(mixed(TEXTS, each=2))) > 1.8 * len(TEXTS)


def test_no_text_is_mixed_where_none_is_asked_for():
    assert mixed(TEXTS, each=0) == ()
