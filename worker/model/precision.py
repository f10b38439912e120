"""The precision of a network: of its matrix products alone, or 16 bit throughout.

Throughout means that embeddings, norms and sums have the products' precision, too: half the memory
traffic between the products. float16 has the digits for it, and a range that few networks leave: a
network's weights, and what it computes for the sample texts, are looked at first. bfloat16 has not
the digits: throughout it changes 3 labels of 2,000 validation tweets, two of them where float32's
two best scores are 0.06 apart; of the products alone it changes 1, where they are 0.0003 apart.

The last layer stays in float32: its rounding would be that of the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from worker.model import linear
from worker.model.device import choose_dtype

if TYPE_CHECKING:
    from worker.model.classifier import TorchClassifier

FLOAT16_ROOM = {True: 8.0, False: 2.0}
"""How many times the largest number of the sample texts float16 must hold, throughout and of the
products alone: other texts may give larger ones, and sums of products grow from layer to layer."""


class Precision(NamedTuple):
    """Of a network's numbers; those that are not named are float32."""

    dtype: torch.dtype
    """Of the matrix products."""
    throughout: bool = False
    """Whether embeddings, norms and sums have it, too."""

    @property
    def name(self) -> str:
        """The dtype's, as settings and metrics have it."""
        return str(self.dtype).removeprefix("torch.")


FLOAT32 = Precision(torch.float32)


def candidates(asked: str, device: torch.device) -> list[Precision]:
    """The precisions to try for a setting, best first; float32 is what is left after them.

    Args:
        asked: `auto`, `float32`, `bfloat16` or `float16`.
        device: Where the network is. On CUDA float16 is tried throughout first.
    """
    named = Precision(choose_dtype(asked, device))
    if device.type == "cuda" and asked in ("auto", "float16"):
        return [Precision(torch.float16, throughout=True), named]
    return [named]


class Numbers:
    """The numbers of a network, in any precision until one is settled.

    Args:
        network: In float32. Its linear layers are replaced (`linear.py`).
        labels: The number of labels: a layer with as many outputs is the head.
    """

    def __init__(self, network: torch.nn.Module, *, labels: int) -> None:
        linear.replace_all(network, labels=labels)
        self._network = network
        self._others = [
            (number, number.data)
            for module in network.modules()
            if not isinstance(module, linear.Product)
            for number in module.parameters(recurse=False)
            if number.is_floating_point()
        ]

    def use(self, precision: Precision) -> None:
        """Computes in this precision from now on. Not after `settle`."""
        linear.use_precision(self._network, precision.dtype)
        for number, float32 in self._others:
            number.data = float32.to(precision.dtype) if precision.throughout else float32

    def settle(self) -> None:
        """Frees the memory of what is not in use: the precision is chosen."""
        linear.settle(self._network)
        self._others.clear()


def fits_float16(classifier: TorchClassifier, *, throughout: bool) -> bool:
    """Whether the numbers of a network in float32 are far within float16's range.

    Looked at are its weights, and what it computes for the sample texts and for the longest row.

    Args:
        classifier: In float32, with padded rows.
        throughout: Whether all numbers would be float16; else only products and what they take.

    Raises:
        InferenceError: The network fails.
    """
    network = classifier.network
    modules = [one for one in network.modules() if throughout or isinstance(one, linear.Product)]
    weights = [one for module in modules for one in module.parameters(recurse=False)]
    largest = max((_size(one) for one in weights), default=0.0)

    def look(module: torch.nn.Module, inputs: tuple[object, ...], output: object) -> None:  # noqa: ARG001
        nonlocal largest
        largest = max(largest, *(_size(one) for one in (*inputs, output)))

    hooks = [module.register_forward_hook(look) for module in modules]
    try:
        classifier.reference()
        classifier.run([classifier.filler(classifier.checkpoint.max_length)])
    finally:
        for hook in hooks:
            hook.remove()
    return largest * FLOAT16_ROOM[throughout] <= torch.finfo(torch.float16).max


def _size(numbers: object) -> float:
    """The largest number; infinite where one is no number, 0 where they are no floats."""
    if not isinstance(numbers, torch.Tensor) or not numbers.is_floating_point():
        return 0.0
    largest = float(numbers.detach().abs().max())
    return largest if largest == largest else float("inf")  # noqa: PLR0124 - NaN is not itself
