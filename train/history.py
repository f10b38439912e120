"""How a training went: the Trainer's log as values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One row of the loss table; `train_loss` is the mean of the epoch's logged losses."""

    epoch: float
    train_loss: float
    validation_loss: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How training went; `losses` are pairs of epoch and training loss."""

    epochs: tuple[Epoch, ...]
    losses: tuple[tuple[float, float], ...]
    seconds: float
    samples_per_second: float

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept: the first with the highest validation macro F1."""
        return max(self.epochs, key=lambda epoch: epoch.macro_f1)


def from_log(log: Sequence[dict[str, Any]], result: dict[str, float]) -> History:
    """The `log_history` of a Trainer's state, and the metrics that `train()` returns."""
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
