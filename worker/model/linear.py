"""The fastest float32 and bfloat16 matrix products of a CPU.

torch hands a linear layer on a CPU to MKL, which uses half the vector width on processors that
are not Intel's (61 GFLOP/s against oneDNN's 227 on a Zen 5 core pair, float32). oneDNN comes with
torch too. Which one is faster is measured when the model is loaded; both compute in the same
precision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OneDnnLinear(nn.Module):
    """``nn.Linear`` through oneDNN. Shares the weights; inference only.

    Args:
        linear: The layer to stand in for.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    @property
    def weight(self) -> torch.Tensor:
        """The layer's weight: models look at its dtype and device."""
        return self.linear.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape (..., inputs) to (..., outputs)."""
        product: torch.Tensor = _product()(
            rows, self.linear.weight, self.linear.bias, "none", [], ""
        )
        return product


def available() -> bool:
    """Whether this torch has oneDNN and the operator that its own compiler uses."""
    built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return built and _product() is not None


def use_onednn(model: nn.Module) -> None:
    """Replaces every linear layer of a model, in place."""
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, OneDnnLinear(child))
        elif not isinstance(child, OneDnnLinear):
            use_onednn(child)


def use_default(model: nn.Module) -> None:
    """Takes ``use_onednn`` back."""
    for name, child in model.named_children():
        if isinstance(child, OneDnnLinear):
            setattr(model, name, child.linear)
        else:
            use_default(child)


def _product() -> Any:
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)
