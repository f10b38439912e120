"""A checkpoint to a classifier: its weights, and how they are computed with.

    weights -> padding's side -> precision -> kernels -> packed or padded rows -> token budget

Each is chosen by what the model answers to sample texts, and how fast, where it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from worker.errors import Fatal, Refused
from worker.laps import Laps
from worker.model import budget, mates, packing, precision, tuning
from worker.model import checkpoint as checkpoints
from worker.model import device as devices
from worker.model.classifier import TorchClassifier
from worker.model.failures import InferenceError
from worker.model.tokenizer import padding_side
from worker.model.weights import network

if TYPE_CHECKING:
    from pathlib import Path

    from worker.classifier import Abstention
    from worker.model.checkpoint import Checkpoint

log = structlog.get_logger(__name__)

NO_MEMORY = "{place} has no memory for the model of {path}: free some, or take a smaller model"


def load(
    *,
    path: Path,
    device: str,
    dtype: str,
    rows: str = "auto",
    threads: int | None = None,
    processes: int = 1,
    max_seconds: float | None = None,
    checkpoint: Checkpoint | None = None,
    laps: Laps | None = None,
) -> TorchClassifier:
    """Loads a checkpoint, and chooses how it computes: precision, kernel, packed or padded rows.

    Args:
        path: The checkpoint directory.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        rows: `auto`, `packed` or `padded`.
        threads: Threads on a CPU; None: as many as the process may use, or its share of them.
        processes: How many processes share the CPUs.
        max_seconds: Longest time of a batch, by which the limits are measured; None: they are not.
        checkpoint: What `checkpoint.read` returned, where it was called before. The model abstains
            if that has thresholds.
        laps: Measures the seconds of each step, which are logged at the end.

    Raises:
        Fatal: The device's memory is too small, or taken.
        Refused: The checkpoint, the device, the precision or packed rows cannot be used.
    """
    laps = laps or Laps()
    checkpoint = checkpoint or checkpoints.read(path)
    place = devices.choose_device(device)
    devices.settle_arithmetic(place)
    if place.type == "cpu":
        torch.set_num_threads(threads or max(1, devices.usable_cpus() // processes))
    try:
        model = network(checkpoint, place)
    except torch.OutOfMemoryError as error:
        raise Fatal(NO_MEMORY.format(place=place, path=path)) from error
    classifier = TorchClassifier(checkpoint=checkpoint, model=model, device=place)
    laps.lap("weights")
    try:
        mates.settle_side(classifier, asked=padding_side(path))
        laps.lap("padding")
        expected = classifier.reference()
    except InferenceError as error:
        if error.kind == "oom":
            raise Fatal(NO_MEMORY.format(place=place, path=path)) from error
        raise Refused(f"model.checkpoint: {path} cannot label a text: {error}") from error
    if expected.shape[1] != len(checkpoint.labels):
        raise Refused(
            f"model.checkpoint: the model of {path} has {expected.shape[1]} outputs, and "
            f"config.json names {len(checkpoint.labels)} labels"
        )
    if not np.isfinite(expected).all():
        raise Refused(f"model.checkpoint: the scores of {path} are not finite in float32")
    reduced = tuning.choose_precision(
        classifier,
        precision.candidates(dtype, place),
        expected=expected,
        required=dtype != "auto",
    )
    laps.lap("precision")
    kernels = tuning.choose_kernels(classifier, expected=reduced)
    laps.lap("kernels")
    padded_because = packing.choose_rows(
        classifier, rows, expected=None if reduced is None else expected
    )
    laps.lap("rows")
    # Only now: what is above compares scores, and has no energy among them.
    classifier.abstention = checkpoint.abstention
    if max_seconds is not None:
        trials = budget.measured(classifier, max_seconds=max_seconds)
        classifier.limits = budget.limits(trials, max_seconds=max_seconds) or classifier.limits
        laps.lap("budget")
    devices.give_back(place)
    log.info(
        "model_loaded",
        model=checkpoint.name,
        version=checkpoint.version,
        labels=len(checkpoint.labels),
        device=str(place),
        dtype=classifier.precision.name,
        throughout=classifier.precision.throughout,
        kernels=kernels,
        rows="padded" if padded_because else "packed",
        padded_because=padded_because or None,
        max_length=checkpoint.max_length,
        **_thresholds(checkpoint.abstention),
        seconds=laps.seconds,
        cpu_seconds=laps.cpu_seconds,
    )
    return classifier


def _thresholds(abstention: Abstention | None) -> dict[str, float]:
    """What the log says of them: nothing where the worker never abstains."""
    if abstention is None:
        return {}
    return {"abstains_below_score": abstention.score, "abstains_above_energy": abstention.energy}
