"""The rows that a model gets wrong most confidently: bad labels and blind spots come first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.calibrate import Floats
from train.dataset import Split

KEPT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """`row` counts from 1; `score` is that of the wrong answer."""

    row: int
    text: str
    target: str
    label: str
    score: float


def most_confident(split: Split, scores: Floats, *, labels: Sequence[str]) -> tuple[Mistake, ...]:
    """At most `KEPT`, the highest score first."""
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
