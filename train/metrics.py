"""Logits and targets -> the figures of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from train.calibrate import expected_calibration_error, probabilities, softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """One label's row of the report; `rows` counts its targets."""

    label: str
    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One split's figures; `confusion[i][j]` counts targets i that were labelled j."""

    rows: int
    accuracy: float
    macro_f1: float
    ece: float
    ece_uncalibrated: float
    per_label: tuple[LabelFigures, ...]
    confusion: tuple[tuple[int, ...], ...]

    def as_json(self) -> dict[str, object]:
        """Plain values; `labels` maps a name to its figures."""
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
    """Mean F1 over the labels that occur as target or prediction, as scikit-learn has it."""
    return float(f1_score(targets, predicted, average="macro", zero_division=0))


def measure(
    logits: Floats, targets: Sequence[int], *, labels: Sequence[str], temperature: float
) -> Figures:
    """The figures of one split.

    Args:
        logits: One row a text, one column a label; before the temperature.
        targets: One index into `labels` a text.
        labels: Names, in the order of the columns.
        temperature: Of the published scores: softmax(logits / temperature).
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
