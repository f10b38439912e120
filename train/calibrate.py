"""Calibration: one temperature, so that answers with a score of 0.9 are right nine times in ten."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Targets = Sequence[int] | Rows

BINS = 15
"""Bins of equal width over the confidence, as many as in Guo et al. 2017. Twice as many leave a few
rows in each on a split of 2,000, and the error is then mostly noise."""

LOWEST, HIGHEST = 0.25, 10.0
"""Bounds of the temperature. A split that is labelled without a mistake has no best one: the loss
falls all the way to 0. The lower bound keeps scores from becoming exactly 1."""

PRECISE = 1e-6
"""Relative error of a fitted temperature: four decimals are shown. A finer one costs a step or two,
and changes no score by more than the worker rounds it."""

FOLDS = 5
"""Parts of a split that is cross-fitted: a temperature is fitted on four of them, so almost on as
many rows as the published one. Twice as many take twice the time and differ less from it."""

SEED = 0
"""Of the parts: the same rows give the same figures, whatever the seed of the training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bar of the reliability diagram."""

    rows: int
    confidence: float
    """Mean score of the answers, 0 to 1; 0 where there are no rows."""
    accuracy: float
    """Share of the answers that are right, 0 to 1; 0 where there are no rows."""


def softmax(logits: Floats) -> Floats:
    """Softmax over the last axis, float64: rows that sum to 1, shape as given."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return scores


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Softmax of logits / temperature: the scores that the worker publishes; shape as given.

    `worker/model/classifier.py` has the same in float32; `tests/unit/model/test_agreement.py`
    compares.
    """
    return softmax(logits / temperature)


def fit_temperature(logits: Floats, targets: Targets) -> float:
    """The temperature with the least negative log likelihood (Guo et al., ICML 2017).

    The loss is convex in 1 / temperature, so it is least where its slope is 0. The slope is taken
    in place of the loss: that of a faultless split rounds to 0 far above the least temperature.

    Args:
        logits: Float64, shape (texts, labels).
        targets: The right column of each text.

    Returns:
        A temperature from `LOWEST` to `HIGHEST`: exactly one of them where the loss is least there
        or beyond. 1 where all have the same loss: each text has one logit for all labels, or there
        is no text.

    Raises:
        ValueError: A logit is infinite or not a number.
    """
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    below = logits - logits.max(axis=1, keepdims=True)
    if not below.any():
        return 1.0
    of_target = below[np.arange(len(below)), np.asarray(targets)]

    def slope(log_temperature: float) -> float:
        shares = np.exp(below / np.exp(log_temperature))
        expected = np.einsum("ij,ij->i", shares, below) / shares.sum(axis=1)
        return float(np.sum(expected - of_target))

    if slope(np.log(LOWEST)) <= 0:
        return LOWEST
    if slope(np.log(HIGHEST)) >= 0:
        return HIGHEST
    return float(np.exp(brentq(slope, np.log(LOWEST), np.log(HIGHEST), xtol=PRECISE)))


def at_bound(temperature: float) -> bool:
    """Whether a fitted temperature is one of its bounds, so that there is no best one."""
    return temperature in {LOWEST, HIGHEST}


def folds(targets: Targets) -> Rows:
    """The fold of each row, 0 to `FOLDS` - 1: at random, with the rows of each label spread evenly.

    Args:
        targets: The right column of each text.
    """
    columns = np.asarray(targets)
    order = np.random.default_rng(SEED).permutation(len(columns))
    order = order[np.argsort(columns[order], kind="stable")]
    places = np.empty(len(columns), dtype=np.intp)
    places[order] = np.arange(len(columns)) % FOLDS
    return places


def cross_fitted(logits: Floats, targets: Targets) -> Floats:
    """Scores of a split on which a temperature is fitted, as new texts would get them.

    Those of each fold have the temperature that was fitted on the others: with one that was fitted
    on the same rows they would seem better calibrated than scores of new texts are.

    Args:
        logits: Float64, shape (texts, labels).
        targets: The right column of each text.

    Returns:
        Float64, shape as `logits`, rows that sum to 1.

    Raises:
        ValueError: A logit is infinite or not a number.
    """
    columns, places = np.asarray(targets), folds(targets)
    scores = np.empty_like(logits)
    for fold in np.unique(places):
        here = places == fold
        temperature = fit_temperature(logits[~here], columns[~here])
        scores[here] = probabilities(logits[here], temperature)
    return scores


def bins_of(confidence: Floats) -> Rows:
    """The bin of each row, 0 to `BINS` - 1.

    Args:
        confidence: The score of each answer, 0 to 1, shape (texts,).
    """
    return np.minimum((confidence * BINS).astype(np.intp), BINS - 1)


def reliability(scores: Floats, targets: Targets) -> tuple[Bin, ...]:
    """Confidence and accuracy of the answers in `BINS` equal widths of confidence.

    Args:
        scores: Float64, shape (texts, labels), rows that sum to 1.
        targets: The right column of each text.
    """
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == np.asarray(targets)
    places = bins_of(confidence)
    bins = []
    for place in range(BINS):
        here = places == place
        rows = int(here.sum())
        bins.append(
            Bin(
                rows=rows,
                confidence=float(confidence[here].mean()) if rows else 0.0,
                accuracy=float(right[here].mean()) if rows else 0.0,
            )
        )
    return tuple(bins)


def expected_calibration_error(scores: Floats, targets: Targets) -> float:
    """Mean difference between confidence and accuracy over the bins, weighted by rows; 0 to 1.

    On few rows it is too high on average: confidence and accuracy of a bin differ by chance too,
    and each difference counts, whichever way it goes. Perfectly calibrated scores, most of them
    near 1, have 0.011 on 2,000 rows and 0.045 on 120.
    """
    bins = reliability(scores, targets)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / max(1, len(targets))
