"""Thresholds of score and energy: what is answered with them, and how good that is."""

import numpy as np
import pytest

from train import abstain
from train.abstain import Thresholds


def logits_of(rng, *, rows, labels=4, noise=2.0):
    """Logits of texts whose right column is drawn at random, and those columns."""
    targets = rng.integers(labels, size=rows)
    logits = rng.normal(0, noise, size=(rows, labels))
    logits[np.arange(rows), targets] += rng.exponential(4, size=rows)
    return logits, targets.tolist()


@pytest.fixture(scope="module")
def given():
    return logits_of(np.random.default_rng(0), rows=2_000)


def test_the_energy_is_minus_the_logarithm_of_the_summed_exponentials():
    logits = np.array([[0.0, 0.0], [3.0, 1.0], [900.0, -900.0]])
    expected = [-np.log(2), -np.log(np.e**3 + np.e), -900.0]
    assert abstain.energies(logits) == pytest.approx(expected)


def test_a_text_at_both_thresholds_is_answered_and_one_beyond_is_not():
    logits = np.log(np.array([[0.8, 0.2], [0.79, 0.21], [0.8, 0.2], [0.5, 0.5]]))
    logits[2:] -= 0.001  # so that its energy is higher
    found = abstain.apply(logits, Thresholds(score=0.8, energy=0.0), temperature=1.0)
    assert [found.because(row) for row in range(4)] == [
        *("", "low_score", "out_of_domain", "out_of_domain")
    ]
    assert found.answered.tolist() == [True, False, False, False]


def test_the_score_is_the_published_one_and_the_energy_is_of_the_logits_themselves():
    logits = np.array([[2.0, 0.0]])
    hot = 1 / (1 + np.exp(-0.2))
    just = Thresholds(score=hot + 1e-5, energy=-2.1269)
    assert abstain.apply(logits, just, temperature=10.0).because(0) == "low_score"
    assert not abstain.apply(logits, just, temperature=1.0).because(0)


@pytest.mark.parametrize("coverage", [0.99, 0.9, 0.5, 0.05])
def test_as_many_texts_are_answered_as_are_asked_for(given, coverage):
    logits, _ = given
    thresholds = abstain.at_coverage(logits, temperature=1.5, coverage=coverage)
    found = abstain.apply(logits, thresholds, temperature=1.5)
    assert found.answered.mean() == pytest.approx(coverage, abs=0.003)
    assert found.out_of_domain.mean() == pytest.approx((1 - coverage) / 2, abs=0.003)


def test_texts_of_one_score_are_all_answered():
    logits = np.tile([[5.0, 0.0]], (100, 1))
    thresholds = abstain.at_coverage(logits, temperature=1.0, coverage=0.9)
    assert abstain.apply(logits, thresholds, temperature=1.0).answered.all()


def test_fewer_answers_are_better_ones_and_as_good_on_new_texts(given):
    logits, targets = given
    fewer = abstain.kept(logits, targets, temperature=1.0, coverage=0.5)
    more = abstain.kept(logits, targets, temperature=1.0, coverage=0.9)
    assert fewer.precision > more.precision + 0.05
    assert fewer.low < fewer.precision < fewer.high
    thresholds = abstain.at_coverage(logits, temperature=1.0, coverage=0.5)
    new, theirs = logits_of(np.random.default_rng(1), rows=20_000)
    answered = abstain.apply(new, thresholds, temperature=1.0).answered
    right = (new.argmax(axis=1) == np.array(theirs))[answered].mean()
    assert fewer.low - 0.01 < right < fewer.high + 0.01


def test_the_precision_is_that_of_texts_which_chose_no_threshold():
    """Fifty texts of noise: thresholds that see them all would find some that are right."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(40):
        logits = rng.normal(size=(50, 2))
        targets = rng.integers(2, size=50).tolist()
        found.append(abstain.kept(logits, targets, temperature=1.0, coverage=0.2).precision)
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_as_many_texts_as_possible_are_answered_with_a_precision(given):
    logits, targets = given
    coverage, found = abstain.most_answered(logits, targets, temperature=1.0, precision=0.95)
    assert found.precision >= 0.95
    one_more = abstain.kept(
        logits, targets, temperature=1.0, coverage=round(coverage + abstain.STEP, 4)
    )
    assert one_more.precision < 0.95


def test_what_is_precise_anyway_still_keeps_something_out():
    logits = np.array([[9.0, 0.0]] * 99 + [[0.1, 0.0]])
    coverage, found = abstain.most_answered(logits, [0] * 100, temperature=1.0, precision=0.5)
    assert (coverage, found.precision) == (abstain.MOST, 1.0)
    thresholds = abstain.at_coverage(logits, temperature=1.0, coverage=coverage)
    assert not abstain.apply(logits, thresholds, temperature=1.0).answered[99]


def test_where_no_coverage_is_precise_enough_the_best_one_is_named():
    rng = np.random.default_rng(5)
    logits, targets = rng.normal(size=(500, 2)), rng.integers(2, size=500).tolist()
    _, found = abstain.most_answered(logits, targets, temperature=1.0, precision=0.99)
    assert 0.4 < found.precision < 0.99
