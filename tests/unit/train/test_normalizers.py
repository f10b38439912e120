"""`--normalizer tweets`: what a tokenizer does to a text before its own steps."""

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, normalizers

from train.noise import noisy
from train.normalizers import VERSIONS, put_before
from worker.model import prefix


def with_steps(own=None, name="tweets"):
    tokenizer = Tokenizer(models.WordLevel())
    if own is not None:
        tokenizer.normalizer = own
    put_before(SimpleNamespace(backend_tokenizer=tokenizer), name)
    return tokenizer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tidy text, as it was", "tidy text, as it was"),
        ("sooooo haaappy", "so happy"),
        ("Niiice BOOOOO", "Nice BO"),
        ("good bookkeeper, aa", "good bookkeeper, aa"),
        ("1000000 years......", "1000000 years......"),
        ("иии ééé ☕☕☕", "и é ☕☕☕"),
        ("see http://bit.ly/2fGh7?x=1#y now", "see   now"),
        ("see WWW.example.com/a,", "see  "),
        ("awww.nice xhttp://a", "aw.nice xhttp://a"),
        ("@mia_84 thanks @NewsDesk!", "  thanks  !"),
        ("mail me: mia@example.com", "mail me: mia@example.com"),
        ("#mondaythoughts and #TBT # 5 C# a#b", "mondaythoughts and TBT # 5 C# a#b"),
        ("&lt;3 you &amp; me &quot;x&quot; it&#39;s", '<3 you & me "x" it\'s'),
        ("&amp;lt; is an entity", "&lt; is an entity"),
        ("", ""),
    ],
)
def test_the_steps(text, found):
    assert with_steps().normalizer.normalize_str(text) == found


def test_the_tokenizers_own_steps_come_after_them():
    assert with_steps(normalizers.Lowercase()).normalizer.normalize_str("#Sooo") == "so"


def test_none_leaves_a_tokenizer_as_it_is():
    own = normalizers.Lowercase()
    assert with_steps(own, "none").normalizer.normalize_str("#Sooo") == "#sooo"
    assert with_steps(None, "none").normalizer is None
    assert VERSIONS["none"] == ""


def test_they_are_saved_with_the_tokenizer(tmp_path):
    with_steps().save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.normalizer.normalize_str("@mia sooo #happy") == "  so happy"


def test_a_long_text_is_cut_as_with_the_tokenizers_own_steps():
    """The worker knows that none of the patterns reaches over a space."""
    kinds = prefix._parts(with_steps().normalizer)
    assert len(kinds) > 5
    assert all(map(prefix._is_local, kinds))


@pytest.mark.parametrize("rule", ["hashtag", "stretched letters", "mention", "link"])
def test_typing_noise_is_taken_away_again(rule):
    """But for the letters that stand twice where one was stretched, and a hashtag of its own."""
    texts = ["i feel happy about the weather", "so many people there"]
    tidy = with_steps()
    for text, typed in zip(texts, noisy(texts, rules=[rule]), strict=True):
        assert typed != text
        assert tidy.normalizer.normalize_str(typed).split() == text.split()
