"""The most confident mistakes of a model: they show wrong labels, and what it cannot do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.calibrate import Floats
from train.dataset import Split

KEPT = 10
"""Mistakes in a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A row that was labelled wrongly."""

    row: int
    """Counted from 1."""
    text: str
    target: str
    """The label that the row has."""
    label: str
    """The label that the model answered."""
    score: float
    """That of the answer."""


def most_confident(split: Split, scores: Floats, *, labels: Sequence[str]) -> tuple[Mistake, ...]:
    """The mistakes with the highest scores, at most `KEPT`, the highest first.

    Args:
        split: Its rows have targets.
        scores: Float64, shape (texts, labels).
        labels: Names, in the order of the columns.
    """
    answers = scores.argmax(axis=1)
    targets = np.asarray(split.targets)
    wrong = np.flatnonzero(answers != targets)
    worst = wrong[np.argsort(-scores[wrong, answers[wrong]], kind="stable")][:KEPT]
    return tuple(
        Mistake(
            row=int(row) + 1,
            text=split.texts[row],
            target=labels[targets[row]],
            label=labels[answers[row]],
            score=float(scores[row, answers[row]]),
        )
        for row in worst
    )
