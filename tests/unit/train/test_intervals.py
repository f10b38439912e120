"""Intervals against plain ones: rows that are drawn one by one, and splits that are made anew."""

import numpy as np
import pytest
from scipy.stats import binomtest

from train import intervals
from train.calibrate import expected_calibration_error

LABELS = 3


def split(rows, *, seed=0, sure=1.0):
    """Scores and targets of a split, where an answer with a score of s is right with s ** sure."""
    source = np.random.default_rng(seed)
    confidence = source.uniform(0.4, 1.0, size=rows)
    answers = source.integers(LABELS, size=rows)
    scores = np.repeat((1 - confidence)[:, None] / (LABELS - 1), LABELS, axis=1)
    scores[np.arange(rows), answers] = confidence
    right = source.uniform(size=rows) < confidence**sure
    targets = np.where(right, answers, (answers + source.integers(1, LABELS, size=rows)) % LABELS)
    return scores, targets


def macro_f1(targets, answers):
    """As it is defined, label by label."""
    found = []
    for label in set(targets) | set(answers):
        hits = np.sum((targets == label) & (answers == label))
        found.append(2 * hits / (np.sum(targets == label) + np.sum(answers == label)))
    return np.mean(found)


def confusion(targets, answers):
    table = np.zeros((LABELS, LABELS), dtype=int)
    np.add.at(table, (targets, answers), 1)
    return table


def row_by_row(metric, rows, draws=1_500):
    """The plain bootstrap: every row is drawn, and the metric computed of what was drawn."""
    source = np.random.default_rng(1)
    return np.array([metric(source.integers(rows, size=rows)) for _ in range(draws)])


def quantiles(drawn):
    return np.quantile(drawn, [0.025, 0.975])


@pytest.mark.parametrize(("right", "rows"), [(12, 12), (0, 5), (1, 1), (1868, 2000), (90, 120)])
def test_the_interval_of_accuracy_is_wilsons(right, rows):
    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert intervals.of_accuracy(right, rows) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_macro_f1_is_that_of_rows_drawn_one_by_one():
    scores, targets = split(150)
    answers = scores.argmax(axis=1)
    expected = quantiles(row_by_row(lambda rows: macro_f1(targets[rows], answers[rows]), 150))
    found = intervals.of_macro_f1(confusion(targets, answers))
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("sure", [2.0, 4.0])
def test_the_interval_of_the_calibration_error_is_that_of_rows_drawn_one_by_one(sure):
    scores, targets = split(300, sure=sure)
    drawn = row_by_row(lambda rows: expected_calibration_error(scores[rows], targets[rows]), 300)
    expected = quantiles(drawn) - (drawn.mean() - expected_calibration_error(scores, targets))
    found = intervals.of_calibration_error(scores, targets)
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("sure", "true"), [(1.0, 0.0), (2.0, 0.18)])
def test_of_twenty_splits_the_intervals_of_nineteen_have_the_true_error(sure, true):
    """Of scores from 0.4 to 1 the mean of s - s is 0, and that of s - s ** 2 is 0.18."""
    found = [
        intervals.of_calibration_error(*split(250, seed=seed, sure=sure)) for seed in range(80)
    ]
    assert sum(low <= true <= high for low, high in found) >= 72
    assert sum(low == 0 for low, _ in found) == pytest.approx(80 if true == 0 else 0, abs=5)


def test_the_error_itself_is_in_its_interval():
    for seed in range(20):
        scores, targets = split(120, seed=seed)
        low, high = intervals.of_calibration_error(scores, targets)
        assert low <= expected_calibration_error(scores, targets) <= high


def test_the_same_rows_have_the_same_interval():
    scores, targets = split(200)
    once = intervals.of_calibration_error(scores, targets)
    assert once == intervals.of_calibration_error(scores, targets)


def test_a_label_that_is_neither_target_nor_answer_counts_in_no_draw():
    assert intervals.of_macro_f1([[3, 0, 0], [0, 2, 0], [0, 0, 0]]) == (1, 1)


def test_one_row_has_intervals():
    assert intervals.of_macro_f1([[0, 1], [0, 0]]) == (0, 0)
    assert intervals.of_calibration_error(np.array([[0.7, 0.3]]), [0]) == pytest.approx((0, 0.3))
    low, high = intervals.of_calibration_error(np.array([[0.99, 0.01]]), [1])
    assert (low, high) == pytest.approx((0.99, 0.99))


def test_many_rows_that_differ_are_drawn_less_often_and_in_bounded_portions():
    for columns in (1, 36, 3_000, 22_500, 1_000_000, 10_000_000):
        portions = list(intervals._portions(columns))
        assert intervals.FEWEST <= sum(portions) <= intervals.RESAMPLES
        assert max(portions) == 1 or max(portions) * columns <= intervals.AT_ONCE
    assert list(intervals._portions(3_000)) == [intervals.RESAMPLES]
    assert sum(intervals._portions(1_000_000)) == intervals.FEWEST


def test_portions_change_no_interval(monkeypatch):
    scores, targets = split(200)
    whole = intervals.of_calibration_error(scores, targets)
    monkeypatch.setattr(intervals, "AT_ONCE", 5_000)
    assert intervals.of_calibration_error(scores, targets) == pytest.approx(whole)
