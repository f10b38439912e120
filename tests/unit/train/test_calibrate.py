"""Temperature and calibration error on made-up logits with a known answer."""

import numpy as np
import pytest

from train.calibrate import (
    BINS,
    HIGHEST,
    LOWEST,
    at_bound,
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)


def drawn(temperature: float, rows: int = 4000):
    """Logits that are `temperature` times too sure of targets drawn from their own scores."""
    source = np.random.default_rng(0)
    honest = source.normal(size=(rows, 4)) * 2
    chances = softmax(honest)
    targets = [int(source.choice(4, p=row)) for row in chances]
    return honest * temperature, targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_fit_finds_how_much_too_sure_the_logits_are(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.1)


def test_the_temperature_mends_the_calibration_error():
    logits, targets = drawn(3.0)
    before = expected_calibration_error(softmax(logits), targets)
    after = expected_calibration_error(softmax(logits / fit_temperature(logits, targets)), targets)
    assert before > 0.15
    assert after < 0.03


def test_faultless_and_hopeless_splits_stay_inside_the_bounds():
    logits = np.eye(3) * 5.0
    assert fit_temperature(logits, [0, 1, 2]) == pytest.approx(LOWEST, rel=0.01)
    assert fit_temperature(logits, [1, 2, 0]) == pytest.approx(HIGHEST, rel=0.01)


def test_a_temperature_at_its_bound_is_known_as_such():
    assert at_bound(fit_temperature(np.eye(3) * 5.0, [0, 1, 2]))
    assert at_bound(fit_temperature(np.eye(3) * 5.0, [1, 2, 0]))
    assert not at_bound(fit_temperature(*drawn(1.0)))


def test_scores_sum_to_one_for_logits_of_any_size():
    scores = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    assert scores.sum(axis=1) == pytest.approx([1, 1])
    assert scores[1] == pytest.approx([0.5, 0.5])


def test_the_error_is_the_distance_of_confidence_and_accuracy():
    scores = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(scores, [0] * 10) == pytest.approx(0.1)
    assert expected_calibration_error(scores, [1] * 10) == pytest.approx(0.9)


def test_every_row_is_in_one_bin_and_a_score_of_one_in_the_last():
    bins = reliability(np.array([[1.0, 0.0], [0.5, 0.5], [0.7, 0.3]]), [0, 0, 1])
    assert len(bins) == BINS
    assert sum(b.rows for b in bins) == 3
    assert bins[-1].rows == 1
