"""How a training went: the log of the Trainer as values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One row of the table of losses."""

    epoch: float
    """Passes over the training split so far."""
    train_loss: float
    """Mean of the losses that were logged in the epoch."""
    validation_loss: float
    accuracy: float
    """On validation, 0 to 1."""
    macro_f1: float
    """On validation, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The losses, metrics and speed of a training."""

    epochs: tuple[Epoch, ...]
    losses: tuple[tuple[float, float], ...]
    """Pairs of epoch and training loss, as they were logged."""
    seconds: float
    samples_per_second: float
    """Training texts per second."""

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept: the first with the highest macro F1 on validation."""
        return max(self.epochs, key=lambda epoch: epoch.macro_f1)


def from_log(log: Sequence[dict[str, Any]], result: dict[str, float]) -> History:
    """Reads the history of a training.

    Args:
        log: `log_history` of the Trainer's state.
        result: The metrics that `train()` returns.
    """
    losses = tuple((entry["epoch"], entry["loss"]) for entry in log if "loss" in entry)
    epochs = []
    since = 0.0
    for entry in log:
        if "eval_macro_f1" in entry:
            here = [loss for epoch, loss in losses if since < epoch <= entry["epoch"]]
            epochs.append(
                Epoch(
                    epoch=entry["epoch"],
                    train_loss=float(np.mean(here)) if here else math.nan,
                    validation_loss=entry["eval_loss"],
                    accuracy=entry["eval_accuracy"],
                    macro_f1=entry["eval_macro_f1"],
                )
            )
            since = entry["epoch"]
    return History(
        epochs=tuple(epochs),
        losses=losses,
        seconds=result["train_runtime"],
        samples_per_second=result["train_samples_per_second"],
    )
