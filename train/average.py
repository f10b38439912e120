"""The moving average of a model's weights: what a training evaluates and keeps in their place.

The weights of single steps scatter around those that the loss asks for; their average does not
(Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992). Old steps count
less and less, so that the first ones do not.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

_FILE = "last-weights.safetensors"
"""In the checkpoint of an epoch: the weights of its last step, from which the training goes on. Its
other files have the average."""


class Average(TrainerCallback):  # type: ignore[misc]  # untyped
    """Gives the model the average at the end of each epoch, and its own weights at the next one.

    Args:
        decay: Share of the average that stays at a step, 0 to 1; the rest is the step's weights.
            In the first steps less stays.
        resumed_from: The checkpoint from which the training resumes, where it does.
    """

    def __init__(self, decay: float, *, resumed_from: Path | None) -> None:
        self._decay = decay
        self._resumed_from = resumed_from
        self._steps = 0
        self._aside: dict[str, torch.Tensor] = {}
        """The average; while the model has it, the weights of the last step."""
        self._averaged = False
        """Whether the model has the average."""

    def on_train_begin(
        self, _args: Any, state: Any, _control: Any, *, model: Any, **_: Any
    ) -> None:
        """Begins with the model's weights; a run that resumes has the average in the model."""
        self._steps = state.global_step
        self._aside = {name: each.detach().clone() for name, each in _trained(model).items()}
        if self._resumed_from is not None:
            last = load_file(self._resumed_from / _FILE)
            for name, each in _trained(model).items():
                each.data.copy_(last[name])

    def on_step_end(self, _args: Any, state: Any, _control: Any, *, model: Any, **_: Any) -> None:
        """Takes the weights of the step into the average."""
        self._steps = state.global_step
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        weights = _trained(model)
        torch._foreach_lerp_(
            [self._aside[name] for name in weights],
            [each.detach() for each in weights.values()],
            1 - decay,
        )

    def on_epoch_begin(
        self, _args: Any, _state: Any, _control: Any, *, model: Any, **_: Any
    ) -> None:
        """Gives the model its own weights back, to train on."""
        self._swap(model, averaged=False)

    def on_epoch_end(self, _args: Any, _state: Any, _control: Any, *, model: Any, **_: Any) -> None:
        """Gives the model the average, to be evaluated and saved."""
        self._swap(model, averaged=True)

    def save(self, folder: str) -> None:
        """Writes the weights of the last step beside a checkpoint that has the average."""
        save_file(
            {name: each.contiguous() for name, each in self._aside.items()}, f"{folder}/{_FILE}"
        )

    def _swap(self, model: Any, *, averaged: bool) -> None:
        if self._averaged == averaged:
            return
        self._averaged = averaged
        for name, each in _trained(model).items():
            kept = each.detach().clone()
            each.data.copy_(self._aside[name])
            self._aside[name] = kept


def _trained(model: Any) -> dict[str, torch.Tensor]:
    """The weights that a step changes, by name. Tied ones are there once."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}
