"""The metrics of a split, from logits and targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from train import intervals
from train.calibrate import Floats, expected_calibration_error, probabilities, softmax
from train.intervals import Interval


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
class Intervals:
    """Of 95 %: what the metrics might be on other rows of the same kind."""

    accuracy: Interval
    macro_f1: Interval
    ece: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The metrics of one split, 0 to 1."""

    rows: int
    accuracy: float
    macro_f1: float
    ece: float
    """Expected calibration error of the scores."""
    ece_uncalibrated: float
    """The same at temperature 1."""
    cross_fitted: bool
    """Whether `ece` is that of scores of which each has a temperature that was fitted on other rows
    of the split, as on validation; else that of the published scores."""
    intervals: Intervals
    per_label: tuple[LabelFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    """`confusion[i][j]` counts the rows of target i that were labelled j."""

    def as_json(self) -> dict[str, object]:
        """The metrics as plain values; `labels` maps a label to its own."""
        return {
            "rows": self.rows,
            "accuracy": self.accuracy,
            "accuracy_interval": self.intervals.accuracy,
            "macro_f1": self.macro_f1,
            "macro_f1_interval": self.intervals.macro_f1,
            "ece": self.ece,
            "ece_interval": self.intervals.ece,
            "ece_cross_fitted": self.cross_fitted,
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
    logits: Floats,
    targets: Sequence[int],
    *,
    labels: Sequence[str],
    temperature: float,
    cross_fitted: Floats | None = None,
) -> Figures:
    """Computes the metrics of one split.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        targets: The right column of each text.
        labels: Names, in the order of the columns.
        temperature: That of the published scores.
        cross_fitted: Scores whose calibration error is computed in place of theirs, since the
            temperature was fitted on these rows (`calibrate.cross_fitted`); shape as `logits`.
    """
    predicted = logits.argmax(axis=1)
    scores = probabilities(logits, temperature) if cross_fitted is None else cross_fitted
    right = int(np.sum(predicted == np.asarray(targets)))
    every = list(range(len(labels)))
    precision, recall, f1, rows = precision_recall_fscore_support(
        targets, predicted, labels=every, zero_division=0
    )
    confusion = tuple(
        tuple(int(count) for count in row)
        for row in confusion_matrix(targets, predicted, labels=every)
    )
    return Figures(
        rows=len(targets),
        accuracy=right / len(targets),
        macro_f1=macro_f1(targets, predicted),
        ece=expected_calibration_error(scores, targets),
        ece_uncalibrated=expected_calibration_error(softmax(logits), targets),
        cross_fitted=cross_fitted is not None,
        intervals=Intervals(
            accuracy=intervals.of_accuracy(right, len(targets)),
            macro_f1=intervals.of_macro_f1(confusion),
            ece=intervals.of_calibration_error(scores, targets),
        ),
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
        confusion=confusion,
    )
