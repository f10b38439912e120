"""How a loaded model computes: the precision and the kernel of its matrix products.

Both are chosen when the model is loaded, by what it answers to sample texts and how fast: a
precision that moves the scores, or a kernel that computes something else, is not taken.
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
    classifier: TorchClassifier, dtype: torch.dtype, *, expected: np.ndarray, required: bool
) -> np.ndarray | None:
    """Takes a precision if the scores bear it, else float32; replaces the linear layers.

    Args:
        classifier: A model as it was read, in float32.
        dtype: The precision.
        expected: `reference()` of that model.
        required: Whether the precision was asked for by name.

    Returns:
        `reference()` in the precision that was taken; None where the model cannot run with the
        layers that were replaced.

    Raises:
        Refused: The scores do not bear the precision, and it is required.
    """
    linear.replace_all(classifier.network, labels=len(classifier.labels))
    found = _computed(classifier, dtype)
    difference = _difference(found, expected)
    if difference > TOLERANCE:
        name = str(dtype).removeprefix("torch.")
        if required:
            raise Refused(
                f"model.dtype: scores in {name} differ from float32 by {difference:.3f}, "
                f"{TOLERANCE} is accepted: set float32 or auto"
            )
        log.warning("precision_refused", dtype=name, difference=difference, instead="float32")
        found = _computed(classifier, torch.float32)
    linear.settle(classifier.network)
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


def _computed(classifier: TorchClassifier, dtype: torch.dtype) -> np.ndarray | None:
    """`reference()` in a precision, which is used from now on; None where the model cannot run."""
    linear.use_precision(classifier.network, dtype)
    classifier.dtype = dtype
    try:
        return classifier.reference()
    except InferenceError as error:
        log.debug("precision_unusable", dtype=str(dtype), error=str(error))
        return None


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
                best[onednn] = min(best[onednn], _seconds(classifier, rows))
            if max(best.values()) > CLEAR * min(best.values()):
                break
    except InferenceError as error:
        log.debug("onednn_unusable", error=str(error))
        return False
    return best[True] < best[False]


def _seconds(classifier: TorchClassifier, rows: list[list[int]]) -> float:
    begin = time.perf_counter()
    classifier.run(rows)
    return time.perf_counter() - begin
