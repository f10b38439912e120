"""The real tweets, where they are there."""

import pytest

from tests.support import tiny
from train.dataset import Columns, load_for_evaluation, load_for_training

pytestmark = pytest.mark.tweets


def test_the_real_tweets_load_with_the_names_of_their_readme(tweets):
    corpus = load_for_training(str(tweets), columns=Columns())
    assert corpus.labels == tiny.LABELS
    assert corpus.counts("train") == (4666, 5362, 1304, 2159, 1937, 572)
    assert corpus.counts("validation") == (550, 704, 178, 275, 212, 81)


def test_a_directory_of_tweets_without_a_test_split_is_evaluated_on_validation(tweets):
    split = load_for_evaluation(str(tweets), split=None, columns=Columns(), labels=tiny.LABELS)
    assert (split.name, len(split)) == ("validation", 2000)
