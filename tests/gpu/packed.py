"""A network's rows end to end, without padding: measured here before the worker may use it.

Token ids of all texts stand one after the other; attention is told where each text begins. It runs
the networks of `worker.model.encoder` with their own weights. On CUDA attention is torch's
`varlen_attn`, which needs 16 bit; elsewhere a plain one computes the same, text by text.
"""

from __future__ import annotations

import copy
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from worker.model.classifier import TorchClassifier
from worker.model.encoder import Embedding, Layer, SequenceClassifier
from worker.model.failures import InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Attend = Callable[..., torch.Tensor]

SIXTEEN = (torch.float16, torch.bfloat16)


class PackedClassifier(TorchClassifier):
    """A classifier that was loaded, with its rows packed.

    Args:
        classifier: Its network is shared, or copied where it is to be 16 bit throughout.
        throughout: Whether embeddings, norms and sums have the products' precision, too.
    """

    def __init__(self, classifier: TorchClassifier, *, throughout: bool = False) -> None:
        self.__dict__.update(classifier.__dict__)
        network = classifier.network
        if not isinstance(network, SequenceClassifier):
            raise TypeError("only the networks of worker.model.encoder are packed")
        if throughout:
            network = reduced(network, self.dtype)
        self.packed = network
        self.attend = attend_on_cuda if self.device.type == "cuda" else attend_plainly

    def stage(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Token ids and places, int64, shape (tokens,); begins, int32, shape (rows + 1,); and the
        longest row's tokens."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        begins = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(begins[-1]))
        if ids.max() >= self.checkpoint.vocabulary:
            raise InferenceError("other", "a token id is outside the model's vocabulary")
        places = np.arange(len(ids)) - np.repeat(begins[:-1], lengths)
        arrays = ids, places, begins.astype(np.int32), np.array(int(lengths.max()))
        staged = [torch.from_numpy(array) for array in arrays]
        if self.device.type == "cuda":
            staged = [tensor.pin_memory() for tensor in staged[:3]] + staged[3:]
        return staged

    def logits(self, staged: Sequence[torch.Tensor]) -> torch.Tensor:
        """Runs the model on staged rows; shape (rows, labels), on the device."""
        ids, places, begins = (one.to(self.device, non_blocking=True) for one in staged[:3])
        network, longest = self.packed, int(staged[3])
        rows = embedded(network.embedding, ids, places)
        for layer in network.layers:
            rows = through(layer, rows, self.attend, begins, longest)
        first = rows[begins[:-1].long()]
        logits: torch.Tensor = network.classifier(network._squash(network.dense(first)))
        return logits


def reduced(network: SequenceClassifier, dtype: torch.dtype) -> SequenceClassifier:
    """A copy whose embeddings and norms have this precision; its products have theirs already."""
    found = copy.deepcopy(network)
    for module in found.modules():
        if isinstance(module, nn.LayerNorm | Embedding):
            module.to(dtype)
    return found


def embedded(embedding: Embedding, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Vectors of the tokens, shape (tokens, width)."""
    vectors = nn.functional.embedding(ids, embedding.words)
    if embedding.kind is not None:
        vectors = vectors + embedding.kind
    if embedding._padding is not None:
        places = places + embedding._padding + 1
    found: torch.Tensor = embedding.norm(
        vectors + nn.functional.embedding(places, embedding.positions)
    )
    return found


def through(
    layer: Layer, rows: torch.Tensor, attend: Attend, begins: torch.Tensor, longest: int
) -> torch.Tensor:
    """One layer, shape (tokens, width) to the same."""
    heads: Any = (len(rows), layer._heads, -1)
    query, key, value = (one(rows).view(heads) for one in (layer.query, layer.key, layer.value))
    found = attend(query, key, value, begins, longest).reshape(rows.shape)
    rows = layer.attended_norm(layer.attended(found) + rows)
    inner = layer.down(layer._activate(layer.up(rows)))
    normalised: torch.Tensor = layer.down_norm(inner + rows)
    return normalised


def attend_on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, begins: torch.Tensor, longest: int
) -> torch.Tensor:
    """Attention within each text, shape (tokens, heads, width of a head)."""
    from torch.nn.attention.varlen import varlen_attn

    # No more arguments: later ones differ between torch 2.10 and 2.15.
    found: torch.Tensor = varlen_attn(query, key, value, begins, begins, longest, longest)
    return found


def attend_plainly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, begins: torch.Tensor, longest: int
) -> torch.Tensor:
    """The same, text by text, on any device and in any precision."""
    found = []
    for begin, end in pairwise(begins.tolist()):
        one = (part[begin:end].transpose(0, 1) for part in (query, key, value))
        found.append(nn.functional.scaled_dot_product_attention(*one).transpose(0, 1))
    return torch.cat(found)
