"""Temperature and calibration error on made-up logits with a known answer."""

import numpy as np
import pytest

from train.calibrate import (
    BINS,
    FOLDS,
    HIGHEST,
    LOWEST,
    at_bound,
    cross_fitted,
    expected_calibration_error,
    fit_temperature,
    folds,
    probabilities,
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


def loss(logits, targets, temperature):
    """The mean negative log likelihood, as it is defined."""
    scores = np.exp(logits / temperature)
    scores /= scores.sum(axis=1, keepdims=True)
    return -np.mean([np.log(row[target]) for row, target in zip(scores, targets, strict=True)])


@pytest.mark.parametrize("temperature", [0.3, 0.9, 4.0, 9.0])
@pytest.mark.parametrize("rows", [40, 400])
def test_no_temperature_of_a_fine_grid_has_a_lower_loss(temperature, rows):
    logits, targets = drawn(temperature, rows)
    grid = np.geomspace(LOWEST, HIGHEST, 2_000)
    best = grid[np.argmin([loss(logits, targets, one) for one in grid])]
    assert fit_temperature(logits, targets) == pytest.approx(best, rel=0.002)


@pytest.mark.parametrize("scale", [1e-3, 5.0, 12.0, 300.0, 1e30])
def test_faultless_and_hopeless_splits_have_the_bounds_themselves(scale):
    """Of logits of 12 the loss is 0 in float64 from temperature 0.3 down: there it has no slope."""
    logits = np.eye(3) * scale
    assert fit_temperature(logits, [0, 1, 2]) == LOWEST
    assert fit_temperature(logits, [1, 2, 0]) == HIGHEST


@pytest.mark.parametrize("target", [0, 1, 2])
def test_one_row_has_a_temperature(target):
    # The best answer, one that is better than the average, and the worst.
    logits, best = np.array([[2.0, 1.0, -3.0]]), {0: LOWEST, 2: HIGHEST}
    found = fit_temperature(logits, [target])
    assert found == best.get(target, found)
    assert at_bound(found) == (target != 1)


@pytest.mark.parametrize("logits", [np.zeros((0, 3)), np.zeros((4, 3)), np.full((4, 3), 7.5)])
def test_where_no_temperature_changes_the_scores_it_is_one(logits):
    assert fit_temperature(logits, [0] * len(logits)) == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused(wrong):
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(np.array([[1.0, 2.0], [wrong, 0.0]]), [0, 1])


def test_a_temperature_at_its_bound_is_known_as_such():
    assert at_bound(LOWEST)
    assert at_bound(HIGHEST)
    assert not at_bound(fit_temperature(*drawn(1.0)))


@pytest.mark.parametrize("rows", [1, 3, 7, 50, 1_001])
def test_folds_are_of_one_size_and_have_each_label_alike(rows):
    targets = [0] * (rows // 2) + [1] * (rows // 3) + [2] * (rows - rows // 2 - rows // 3)
    places = folds(targets)
    assert len(places) == rows
    assert places.tolist() == folds(targets).tolist()
    for chosen in (np.ones(rows, bool), *(np.equal(targets, label) for label in range(3))):
        sizes = np.bincount(places[chosen], minlength=FOLDS)
        assert len(sizes) == FOLDS
        assert np.ptp(sizes) <= 1


def test_folds_do_not_follow_the_order_of_the_rows():
    places = folds([0] * 100)
    assert places.tolist() != sorted(places)
    assert places[:-FOLDS].tolist() != places[FOLDS:].tolist()


def test_cross_fitted_scores_have_a_temperature_of_other_rows():
    logits, targets = drawn(3.0, rows=60)
    places, scores = folds(targets), cross_fitted(logits, targets)
    for row in range(60):
        others = [other for other in range(60) if places[other] != places[row]]
        temperature = fit_temperature(logits[others], [targets[other] for other in others])
        assert scores[row] == pytest.approx(probabilities(logits[[row]], temperature)[0])


def test_cross_fitted_scores_are_no_better_than_those_of_the_rows_they_are_fitted_on():
    logits, targets = drawn(3.0, rows=30)
    rows = np.arange(30)
    fitted = probabilities(logits, fit_temperature(logits, targets))
    lost = -np.log(cross_fitted(logits, targets)[rows, targets]).mean()
    assert lost > -np.log(fitted[rows, targets]).mean()


def test_one_row_is_cross_fitted_without_any_other():
    logits = np.array([[2.0, 1.0]])
    assert cross_fitted(logits, [0]) == pytest.approx(softmax(logits))


def test_scores_sum_to_one_for_logits_of_any_size():
    scores = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    assert scores.sum(axis=1) == pytest.approx([1, 1])
    assert scores[1] == pytest.approx([0.5, 0.5])


def test_the_error_is_the_distance_of_confidence_and_accuracy():
    scores = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(scores, [0] * 10) == pytest.approx(0.1)
    assert expected_calibration_error(scores, [1] * 10) == pytest.approx(0.9)


def test_the_error_counts_each_bin_by_its_rows():
    scores = np.array([[0.9, 0.1]] * 6 + [[0.55, 0.45]] * 4)
    targets = [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]  # 0.5 of the six are right, 0.75 of the four
    expected = 0.6 * (0.9 - 0.5) + 0.4 * (0.75 - 0.55)
    assert expected_calibration_error(scores, targets) == pytest.approx(expected)


def test_every_row_is_in_one_bin_and_a_score_of_one_in_the_last():
    bins = reliability(np.array([[1.0, 0.0], [0.5, 0.5], [0.7, 0.3]]), [0, 0, 1])
    assert len(bins) == BINS
    assert sum(b.rows for b in bins) == 3
    assert bins[-1].rows == 1
