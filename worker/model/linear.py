"""The matrix products of a model: in which precision, and by which library.

`precision.py` says which precision. On a CPU only the products have a reduced one: that is 0.97
times as fast as a model that is bfloat16 throughout.

torch hands a linear layer on a CPU to MKL, which uses half the vector width on processors
that are not Intel's (61 GFLOP/s against oneDNN's 227 on two Zen 5 cores, float32). oneDNN comes
with torch too; which one is faster is measured when the model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator


class Product(nn.Module):
    """Takes the place of an `nn.Linear`, for inference only. It computes in float32 at first.

    Args:
        linear: The layer.
        exact: Whether it always computes in float32.
    """

    def __init__(self, linear: nn.Linear, *, exact: bool = False) -> None:
        super().__init__()
        self.onednn = False
        self._exact = exact
        bias = None if linear.bias is None else linear.bias.detach()
        self._float32: tuple[torch.Tensor, torch.Tensor | None] | None
        self._float32 = (linear.weight.detach(), bias)
        self.use(torch.float32)

    def use(self, dtype: torch.dtype) -> None:
        """Computes the product in this precision from now on.

        Input of another precision is converted; the output has this one.

        Raises:
            RuntimeError: `settle` was called before.
        """
        if self._float32 is None:
            raise RuntimeError("the precision of this layer is settled")
        weight, bias = self._float32
        dtype = torch.float32 if self._exact else dtype
        self.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.bias = None if bias is None else bias.to(dtype)

    def settle(self) -> None:
        """Frees the memory of the float32 weights: the precision is chosen."""
        self._float32 = None

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape (..., inputs) to (..., outputs)."""
        rows = rows.to(self.weight.dtype)
        if not self.onednn:
            return nn.functional.linear(rows, self.weight, self.bias)
        product: torch.Tensor = _onednn()(rows, self.weight, self.bias, "none", [], "")
        return product


def replace_all(model: nn.Module, *, labels: int) -> None:
    """Replaces every linear layer of a model, in place.

    Args:
        model: The model, in float32.
        labels: The number of labels: a layer with as many outputs is the head and stays in
            float32, since its rounding would be that of the scores.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, Product(child, exact=child.out_features == labels))
        else:
            replace_all(child, labels=labels)


def use_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Computes all replaced layers in this precision; only before `settle`."""
    for product in _products(model):
        product.use(dtype)


def settle(model: nn.Module) -> None:
    """Frees the memory of the float32 weights of all replaced layers: the precision is chosen."""
    for product in _products(model):
        product.settle()


def onednn_is_there() -> bool:
    """Whether this torch has oneDNN, and the operator by which its own compiler calls it."""
    built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return built and _onednn() is not None


def use_onednn(model: nn.Module, *, use: bool) -> None:
    """Computes all replaced layers by oneDNN, or by torch's default."""
    for product in _products(model):
        product.onednn = use


def _products(model: nn.Module) -> Iterator[Product]:
    return (module for module in model.modules() if isinstance(module, Product))


def _onednn() -> Any:
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)
