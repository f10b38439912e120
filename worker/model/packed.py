"""Rows of token ids end to end, without padding, as the inputs of a model.

    text 1   text 2        text 3
    0 1 2 3  0 1 2 3 4 5   0 1 2     positions
    ↑        ↑             ↑      ↑  begins

The networks of `encoder.py` take such a pack (`SequenceClassifier.packed`), and some of those that
transformers builds (`packed_families.py`). `packing.py` chooses between packed and padded rows.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from worker.given.positions import OFFSET_POSITIONS
from worker.layout import Layout
from worker.model.attention import Pack
from worker.model.failures import InferenceError
from worker.model.padded import HostBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.checkpoint import Checkpoint
    from worker.model.encoder import SequenceClassifier
    from worker.model.packed_families import NetworkOfTransformers


class PackedRows:
    """Puts rows of token ids end to end.

    Args:
        checkpoint: Its vocabulary.
        network: Takes packs.
    """

    layout = Layout(packed=True)

    def __init__(
        self, *, checkpoint: Checkpoint, network: SequenceClassifier | NetworkOfTransformers
    ) -> None:
        self._vocabulary = checkpoint.vocabulary
        offset = checkpoint.config.get("model_type") in OFFSET_POSITIONS
        self._padding = checkpoint.pad_token_id if offset else None
        self._packed = network.packed
        self.close = getattr(network, "close", lambda: None)
        """To be called where the network is not run on packs after all."""

    def stage(self, rows: Sequence[Sequence[int]]) -> HostBatch:
        """Token ids and positions, int64, shape (tokens,); and begins, int32, shape (rows + 1,).

        Raises:
            InferenceError: A token id is outside the embedding table. It is found here, since on
                CUDA an index error ends the context.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        begins = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(begins[-1]))
        if ids.max() >= self._vocabulary:
            raise InferenceError("other", "a token id is outside the model's vocabulary")
        arrays = ids, self._positions(ids, begins[:-1], lengths), begins.astype(np.int32)
        return HostBatch(tuple(map(torch.from_numpy, arrays)), lengths.tolist())

    def _positions(self, ids: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The row of each token in the table of positions, as padded rows have it."""
        if self._padding is None:
            places: np.ndarray = np.arange(len(ids)) - np.repeat(begins, lengths)
            return places
        # Tokens count from the padding id on. One with that id, which a text may hold, has that id.
        real = (ids != self._padding).astype(np.int64)
        counted = np.cumsum(real)
        before = counted[begins] - real[begins]
        positions: np.ndarray = (counted - np.repeat(before, lengths)) * real + self._padding
        return positions

    def logits(
        self,
        network: torch.nn.Module,  # noqa: ARG002 - the one that it was made for
        tensors: Sequence[torch.Tensor],
        lengths: list[int],
    ) -> torch.Tensor:
        """Runs the network on what was staged, which is on its device; shape (rows, labels)."""
        ids, positions, begins = tensors
        return self._packed(ids, positions, Pack(begins, lengths, max(lengths)))
