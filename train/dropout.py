"""Dropout on a CPU from fewer random numbers.

torch draws a double for each value that may be dropped, which is an eighth of a training step of
MiniLM on two cores. Sixteen bits of one draw of 64 decide as well.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from train.machine import Machine

_VALUES = 1 << 16
"""What sixteen bits can be."""


class Dropout(torch.nn.Dropout):
    """As torch's, with the share of dropped values rounded to 1 / 65,536."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Drops values in training, and scales the others; shape and type stay."""
        dropped = round(self.p * _VALUES)
        if not self.training or not 0 < dropped < _VALUES:
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64)
        bits = draws.random_(-(1 << 63), None).view(torch.int16)[: input.numel()]
        kept = bits.view(input.shape) >= dropped - _VALUES // 2
        return input * kept.to(input.dtype).mul_(_VALUES / (_VALUES - dropped))


@contextlib.contextmanager
def cheaper_dropout(model: Any, *, on: Machine) -> Iterator[None]:
    """For the block, on a CPU: every `torch.nn.Dropout` of the model is a `Dropout`.

    Where no module drops a model's attention weights, as in BERT, their dropout stays torch's.
    """
    if on.device != "cpu":
        yield
        return
    theirs = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()  # noqa: SLF001 - one that is there twice, too
        if type(child) is torch.nn.Dropout and not child.inplace
    ]
    try:
        for parent, name, child in theirs:
            ours = Dropout(child.p)
            setattr(parent, name, ours.train(child.training))
        yield
    finally:
        for parent, name, child in theirs:
            setattr(parent, name, child.train(getattr(parent, name).training))
