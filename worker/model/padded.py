"""Rows of token ids as the inputs of a model: padded to one length, with a mask and token types.

`packed.py` has the other way.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from worker.layout import Layout
from worker.model.encoder import SequenceClassifier
from worker.model.failures import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from worker.model.checkpoint import Checkpoint

Side = Literal["right", "left"]

PAD_MULTIPLE = 8
"""On CUDA rows are padded to a multiple of it: for tensor cores, and so that fewer shapes occur."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The names of a model's inputs, in the order of `PaddedRows.arrays`."""


class HostBatch(NamedTuple):
    """Rows of token ids in host memory, as the model takes them."""

    tensors: tuple[torch.Tensor, ...]
    lengths: list[int]
    """Tokens of each row."""


class Types(NamedTuple):
    """Token types of one text: they depend on a token's place only."""

    first: tuple[int, ...]
    """Of the special tokens that begin a text."""
    inner: int
    """Of each token of the text itself."""
    last: tuple[int, ...]
    """Of the special tokens that end a text."""

    def of(self, length: int) -> list[int]:
        """The types of a row of that many tokens."""
        inner = max(0, length - len(self.first) - len(self.last))
        return [*self.first, *[self.inner] * inner, *self.last][:length]


class PaddedRows:
    """Pads rows of token ids to one length.

    Args:
        checkpoint: Its padding token and its vocabulary.
        types: The token types that the model takes; None where it takes none.
        multiple: What the length is a multiple of.
    """

    def __init__(self, *, checkpoint: Checkpoint, types: Types | None, multiple: int = 1) -> None:
        self.side: Side = "right"
        """Where a row is padded; `mates.py` sets it."""
        self.layout = Layout(multiple=multiple, longest=checkpoint.max_length)
        self._pad_token_id = checkpoint.pad_token_id
        self._vocabulary = checkpoint.vocabulary
        self._types = types
        self.typed = types is not None and any((*types.first, types.inner, *types.last))
        """Whether a token type is not 0: of most models none is."""

    def stage(self, rows: Sequence[Sequence[int]]) -> HostBatch:
        """The inputs of `INPUTS`, each of shape (rows, length).

        Raises:
            InferenceError: A token id is outside the embedding table.
        """
        lengths = list(map(len, rows))
        arrays = self.arrays(rows, self.layout.length(max(lengths)))
        return HostBatch(tuple(map(torch.from_numpy, arrays)), lengths)

    @staticmethod
    def logits(
        network: torch.nn.Module, tensors: Sequence[torch.Tensor], lengths: list[int]
    ) -> torch.Tensor:
        """Runs a network on what was staged, which is on its device; shape (rows, labels)."""
        inputs: dict[str, torch.Tensor | None] = dict(zip(INPUTS, tensors, strict=False))
        if isinstance(network, SequenceClassifier) and min(lengths) == tensors[0].shape[1]:
            inputs["attention_mask"] = None
        logits: torch.Tensor = network(**inputs).logits
        return logits

    def arrays(self, rows: Sequence[Sequence[int]], longest: int) -> list[np.ndarray]:
        """Token ids, attention mask and, if the model takes them, token types.

        Each is int64, of shape (rows, longest).

        Raises:
            InferenceError: A token id is outside the embedding table. It is found here, since on
                CUDA an index error ends the context.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        places = np.arange(longest)
        if self.side == "left":
            real = places >= longest - lengths[:, None]
        else:
            real = places < lengths[:, None]
        ids = np.full(real.shape, self._pad_token_id, dtype=np.int64)
        ids[real] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        if ids.max() >= self._vocabulary:
            raise InferenceError("other", "a token id is outside the model's vocabulary")
        mask = real.astype(np.int64)
        if self._types is None:
            return [ids, mask]
        types = np.zeros_like(ids)
        if self.typed:
            each = map(self._types.of, lengths.tolist())
            types[real] = np.fromiter(chain.from_iterable(each), np.int64, int(lengths.sum()))
        return [ids, mask, types]


def types_of(tokenizer: Tokenizer, text: str) -> Types:
    """The token types that a tokenizer gives to a text, by their place.

    Args:
        tokenizer: The checkpoint's.
        text: Any of which it makes tokens.
    """
    encoding = tokenizer.encode(text)
    special, types = encoding.special_tokens_mask, encoding.type_ids
    inside = [index for index, one in enumerate(special) if not one]
    if not inside:
        return Types((), 0, ())
    return Types(tuple(types[: inside[0]]), types[inside[0]], tuple(types[inside[-1] + 1 :]))
