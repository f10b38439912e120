"""How a loaded model computes: its precision, and the kernel of its matrix products.

Both are chosen when the model is loaded, by what it answers to sample texts and how fast: a
precision that moves the scores, or a kernel that computes something else, is not taken.
`packing.py` then chooses in the same way whether rows are packed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from worker.errors import Refused
from worker.model import linear
from worker.model.failures import InferenceError
from worker.model.precision import FLOAT32, Numbers, Precision, fits_float16

if TYPE_CHECKING:
    from worker.model.classifier import TorchClassifier

log = structlog.get_logger(__name__)

TOLERANCE = 0.02
"""Largest difference of a score between a reduced precision and float32 that is accepted."""

CLEAR = 1.5
"""How many times faster a kernel must be in one timing for the matter to be settled. On the
processors that were measured the better one is twice as fast; a busy neighbour moves one timing by
less than half. Nearer than that, two more timings of each decide."""


def choose_precision(
    classifier: TorchClassifier,
    precisions: list[Precision],
    *,
    expected: np.ndarray,
    required: bool,
) -> np.ndarray | None:
    """Takes the first precision that the scores bear, else float32; replaces the linear layers.

    Args:
        classifier: A model as it was read, in float32.
        precisions: Best first.
        expected: `reference()` of that model.
        required: Whether the precision was asked for by name.

    Returns:
        `reference()` in the precision that was taken; None where the model cannot run with the
        layers that were replaced.

    Raises:
        Refused: The scores bear none of the precisions, and it is required.
    """
    numbers = Numbers(classifier.network, labels=len(classifier.labels))
    difference = float("inf")
    for precision in precisions:
        found = _computed(classifier, numbers, precision)
        difference = _difference(found, expected)
        if difference <= TOLERANCE:
            break
        log.info("precision_passed_over", **_told(precision), difference=difference)
    else:
        name = precisions[-1].name
        if required:
            raise Refused(f"model.dtype: {_against(name, difference)}: set float32 or auto")
        log.warning("precision_refused", dtype=name, difference=difference, instead="float32")
        found = _computed(classifier, numbers, FLOAT32)
    numbers.settle()
    return found


def choose_kernels(classifier: TorchClassifier, *, expected: np.ndarray | None) -> str:
    """On a CPU, measures torch's default matrix product against oneDNN's; keeps the faster one.

    Args:
        classifier: A model in its final precision.
        expected: `reference()` of it by the default kernel; None where it cannot run.

    Returns:
        `default` or `onednn`.
    """
    if classifier.device.type != "cpu" or not linear.onednn_is_there():
        return "default"
    taken = _onednn_is_right(classifier, expected) and _onednn_is_faster(classifier)
    linear.use_onednn(classifier.network, use=taken)
    return "onednn" if taken else "default"


def _computed(
    classifier: TorchClassifier, numbers: Numbers, precision: Precision
) -> np.ndarray | None:
    """`reference()` in a precision, which is used from now on; None where the model cannot run."""
    try:
        if precision.dtype == torch.float16:
            numbers.use(FLOAT32)
            if not fits_float16(classifier, throughout=precision.throughout):
                log.info("precision_out_of_range", **_told(precision))
                return None
        numbers.use(precision)
        classifier.precision = precision
        return classifier.reference()
    except InferenceError as error:
        log.debug("precision_unusable", **_told(precision), error=str(error))
        return None


def _against(name: str, difference: float) -> str:
    if np.isfinite(difference):
        return f"scores in {name} differ from float32 by {difference:.3f}, {TOLERANCE} is accepted"
    return f"the model cannot be run in {name}, or its numbers are near the end of the range"


def _told(precision: Precision) -> dict[str, str | bool]:
    return {"dtype": precision.name, "throughout": precision.throughout}


def _difference(found: np.ndarray | None, expected: np.ndarray) -> float:
    """The largest difference of a score; infinite where there is none, or it is not finite."""
    difference = float("inf") if found is None else float(np.abs(found - expected).max())
    return difference if np.isfinite(difference) else float("inf")


def _onednn_is_right(classifier: TorchClassifier, expected: np.ndarray | None) -> bool:
    if expected is None:
        return False
    linear.use_onednn(classifier.network, use=True)
    try:
        return bool(np.abs(classifier.reference() - expected).max() <= TOLERANCE)
    except InferenceError as error:
        log.debug("onednn_unusable", error=str(error))
        return False


def _onednn_is_faster(classifier: TorchClassifier) -> bool:
    rows = [classifier.filler(32)] * 32
    best = {True: float("inf"), False: float("inf")}
    try:
        for _ in range(3):
            for onednn in (True, False):  # in turns: a busy moment falls on both
                linear.use_onednn(classifier.network, use=onednn)
                best[onednn] = min(best[onednn], seconds(classifier, rows))
            if max(best.values()) > CLEAR * min(best.values()):
                break
    except InferenceError as error:
        log.debug("onednn_unusable", error=str(error))
        return False
    return best[True] < best[False]


def seconds(classifier: TorchClassifier, rows: list[list[int]]) -> float:
    """What one batch takes."""
    begin = time.perf_counter()
    classifier.run(rows)
    return time.perf_counter() - begin
