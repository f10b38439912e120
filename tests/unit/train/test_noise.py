"""Texts as people type them, made by rules."""

import random

import pytest

from train.noise import _LINKS as LINKS
from train.noise import _NAMES as NAMES
from train.noise import RULES, noisy

TEXT = "i feel that she dont want to come and see how wonderful the garden has become"


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        ("capitals", "I feel that"),
        ("punctuation", "she don't want,"),
        ("mention", "@"),
        ("link", "http"),
        ("entity", "come &amp; see"),
        ("hashtag", "#"),
        ("emoji", TEXT + " "),
        ("stretched letters", ""),
    ],
)
def test_each_rule_changes_the_text_and_leaves_its_words(rule, seen):
    found = {RULES[rule](TEXT, random.Random(seed)) for seed in range(20)}
    assert TEXT not in found
    assert any(seen in text for text in found)
    assert all("wond" in text.lower() for text in found)


def test_what_is_added_is_not_changed():
    for text in noisy([TEXT] * 300):
        for word in text.split():
            if word.startswith(("@", "http")):
                assert word in {*NAMES, *LINKS}


def test_the_same_texts_come_at_every_run_and_differ_from_each_other():
    assert noisy([TEXT] * 30) == noisy([TEXT] * 30)
    assert len(set(noisy([TEXT] * 30))) > 20
    assert TEXT not in noisy([TEXT] * 200, rules=["mention"])


@pytest.mark.parametrize("text", ["x", "é", "日本語", "a b", "#", "   ok"])
@pytest.mark.parametrize("rule", RULES)
def test_any_text_can_be_typed_so(text, rule):
    assert RULES[rule](text, random.Random(0)).strip()
