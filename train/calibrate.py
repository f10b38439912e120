"""Calibration: one temperature, so that answers with a score of 0.9 are right nine times in ten."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

Floats = NDArray[np.float64]

BINS = 15
"""Bins of equal width over the confidence, as many as in Guo et al. 2017. Twice as many leave a few
rows in each on a split of 2,000, and the error is then mostly noise."""

LOWEST, HIGHEST = 0.25, 10.0
"""Bounds of the temperature. A split that is labelled without a mistake has no best one: the loss
falls all the way to 0. The lower bound keeps scores from becoming exactly 1."""


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


def fit_temperature(logits: Floats, targets: Sequence[int]) -> float:
    """The temperature with the least negative log likelihood (Guo et al., ICML 2017).

    Args:
        logits: Float64, shape (texts, labels).
        targets: The right column of each text.

    Returns:
        A temperature from `LOWEST` to `HIGHEST`.
    """
    rows = np.arange(len(targets))
    columns = np.asarray(targets)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        peak = scaled.max(axis=1)
        total = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
        return float(np.mean(total - scaled[rows, columns]))

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(np.exp(found.x))


def at_bound(temperature: float) -> bool:
    """Whether a fitted temperature is one of its bounds, so that there is no best one."""
    return temperature < LOWEST * 1.01 or temperature > HIGHEST / 1.01


def reliability(scores: Floats, targets: Sequence[int]) -> tuple[Bin, ...]:
    """Confidence and accuracy of the answers in `BINS` equal widths of confidence.

    Args:
        scores: Float64, shape (texts, labels), rows that sum to 1.
        targets: The right column of each text.
    """
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == np.asarray(targets)
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
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


def expected_calibration_error(scores: Floats, targets: Sequence[int]) -> float:
    """Mean difference between confidence and accuracy over the bins, weighted by rows; 0 to 1."""
    bins = reliability(scores, targets)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / max(1, len(targets))
