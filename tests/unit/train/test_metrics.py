"""Figures of a report on a few rows that can be counted by hand."""

import numpy as np
import pytest

from tests.support.lazy import Lazy
from train.dataset import Split
from train.mistakes import most_confident

pytestmark = pytest.mark.heavy

metrics = Lazy("train.metrics")
LABELS = ("joy", "anger", "fear")
LOGITS = np.array([[3.0, 0, 0], [0, 2.0, 0], [5.0, 0, 0], [0, 0, 1.0]])
TARGETS = (0, 1, 1, 2)


def test_figures_are_those_of_the_counts():
    figures = metrics.measure(LOGITS, TARGETS, labels=LABELS, temperature=1.0)
    assert figures.accuracy == 0.75
    assert figures.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 1))
    joy, anger, fear = figures.per_label
    assert (joy.precision, joy.recall, joy.rows) == (0.5, 1, 1)
    assert (anger.precision, anger.recall, anger.rows) == (1, 0.5, 2)
    assert figures.macro_f1 == pytest.approx((joy.f1 + anger.f1 + fear.f1) / 3)


def test_a_label_that_never_occurs_neither_fails_nor_counts():
    figures = metrics.measure(LOGITS[:2], (0, 1), labels=LABELS, temperature=1.0)
    assert figures.macro_f1 == 1
    assert figures.per_label[2].rows == 0


def test_json_has_the_fixed_names():
    figures = metrics.measure(LOGITS, TARGETS, labels=LABELS, temperature=2.0).as_json()
    assert {"accuracy", "macro_f1", "rows", "labels", "ece"} <= set(figures)
    assert list(figures["labels"]) == list(LABELS)
    assert figures["ece"] != figures["ece_uncalibrated"]
    assert not figures["ece_cross_fitted"]
    for name in ("accuracy", "macro_f1"):
        low, high = figures[f"{name}_interval"]
        assert 0 <= low < figures[name] < high <= 1
    assert len(figures["ece_interval"]) == 2


def test_the_calibration_error_is_that_of_the_cross_fitted_scores_where_there_are_any():
    scores = np.array([[0.7, 0.2, 0.1]] * 4)  # half of them joy, by a look at the targets
    targets = (0, 0, 1, 2)
    figures = metrics.measure(LOGITS, targets, labels=LABELS, temperature=2.0, cross_fitted=scores)
    assert figures.ece == pytest.approx(0.2)
    assert figures.as_json()["ece_cross_fitted"]
    plain = metrics.measure(LOGITS, targets, labels=LABELS, temperature=2.0)
    assert plain.ece != figures.ece
    assert plain.ece_uncalibrated == figures.ece_uncalibrated


def test_mistakes_come_with_the_most_confident_first():
    split = Split(name="test", texts=("a", "b", "c", "d"), targets=(0, 0, 1, 0))
    scores = np.array([[0.9, 0.1, 0], [0.3, 0.7, 0], [0.95, 0.05, 0], [0.2, 0, 0.8]])
    found = most_confident(split, scores, labels=LABELS)
    assert [(m.row, m.text, m.target, m.label) for m in found] == [
        (3, "c", "anger", "joy"),
        (4, "d", "joy", "fear"),
        (2, "b", "joy", "anger"),
    ]
