"""The metrics of a split, from logits and targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from train.calibrate import expected_calibration_error, probabilities, softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """The metrics of one label, 0 to 1."""

    label: str
    precision: float
    recall: float
    f1: float
    rows: int
    """The rows whose target it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The metrics of one split, 0 to 1."""

    rows: int
    accuracy: float
    macro_f1: float
    ece: float
    """Expected calibration error of the published scores."""
    ece_uncalibrated: float
    """The same at temperature 1."""
    per_label: tuple[LabelFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    """`confusion[i][j]` counts the rows of target i that were labelled j."""

    def as_json(self) -> dict[str, object]:
        """The metrics as plain values; `labels` maps a label to its own."""
        return {
            "rows": self.rows,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
            "ece_uncalibrated": self.ece_uncalibrated,
            "labels": {
                row.label: {
                    "precision": row.precision,
                    "recall": row.recall,
                    "f1": row.f1,
                    "rows": row.rows,
                }
                for row in self.per_label
            },
        }


def macro_f1(targets: Sequence[int], predicted: NDArray[np.intp]) -> float:
    """Mean F1 over the labels that occur as target or prediction, as scikit-learn computes it."""
    return float(f1_score(targets, predicted, average="macro", zero_division=0))


def measure(
    logits: Floats, targets: Sequence[int], *, labels: Sequence[str], temperature: float
) -> Figures:
    """Computes the metrics of one split.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        targets: The right column of each text.
        labels: Names, in the order of the columns.
        temperature: That of the published scores.
    """
    predicted = logits.argmax(axis=1)
    every = list(range(len(labels)))
    precision, recall, f1, rows = precision_recall_fscore_support(
        targets, predicted, labels=every, zero_division=0
    )
    return Figures(
        rows=len(targets),
        accuracy=float(np.mean(predicted == np.asarray(targets))),
        macro_f1=macro_f1(targets, predicted),
        ece=expected_calibration_error(probabilities(logits, temperature), targets),
        ece_uncalibrated=expected_calibration_error(softmax(logits), targets),
        per_label=tuple(
            LabelFigures(
                label=label,
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                rows=int(rows[i]),
            )
            for i, label in enumerate(labels)
        ),
        confusion=tuple(
            tuple(int(count) for count in row)
            for row in confusion_matrix(targets, predicted, labels=every)
        ),
    )
