"""The real tweets, where they are there."""

import dataclasses

import pytest

from tests.support import tiny
from train import copies, holdout
from train.dataset import Columns, Split, load_for_evaluation, load_for_training

pytestmark = pytest.mark.tweets


def test_the_real_tweets_load_with_the_names_of_their_readme(tweets):
    corpus = load_for_training(str(tweets), columns=Columns())
    assert corpus.labels == tiny.LABELS
    assert corpus.counts("train") == (4666, 5362, 1304, 2159, 1937, 572)
    assert corpus.counts("validation") == (550, 704, 178, 275, 212, 81)


def test_a_directory_of_tweets_without_a_test_split_is_evaluated_on_validation(tweets):
    split = load_for_evaluation(str(tweets), split=None, columns=Columns(), labels=tiny.LABELS)
    assert (split.name, len(split)) == ("validation", 2000)


def test_texts_of_the_real_tweets_occur_twice_nearly_all_with_two_labels(tweets):
    corpus = load_for_training(str(tweets), columns=Columns())
    train, validation = corpus.splits["train"], corpus.splits["validation"]
    both = Split(
        name="train",
        texts=train.texts + validation.texts,
        targets=train.targets + validation.targets,
    )
    found = copies.find(dataclasses.replace(corpus, splits={"train": both}))
    assert (found.texts, found.rows) == (38, 76)
    assert (found.conflicts.texts, len(found.conflicts.rows)) == (37, 74)
    found = copies.find(corpus)
    assert found.shared == {"validation": copies.Shared(rows=5, relabelled=5)}


def test_a_validation_split_that_is_taken_from_the_real_tweets_shares_no_text(tweets):
    corpus = load_for_training(str(tweets), columns=Columns())
    alone = dataclasses.replace(corpus, splits={"train": corpus.splits["train"]})
    made = holdout.with_validation(alone, seed=42)
    assert copies.find(made).shared == {}
    assert len(made.splits["validation"]) == 1_597
    assert made.counts("validation") == (467, 538, 128, 215, 192, 57)
