"""Frozen lower layers: their outputs are computed once and looked up in every epoch."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from train.classify import TOKEN_BUDGET, batches
from train.encoder import Encoder
from train.errors import Refused
from train.machine import Machine
from train.printer import Printer, counted

KNOWN = ("bert", "roberta", "xlm-roberta")
"""Model types whose layers take nothing but hidden states and the mask. In others (DeBERTa, MPNet)
the layers also read the positions: the upper half alone would compute something else."""


class LookedUp(torch.nn.Module):
    """Takes the place of the embeddings, and returns the outputs of the frozen layers.

    Args:
        outputs: By a text's token ids without padding: float32, shape (tokens, hidden size).
        pad_id: The id that pads a batch.
    """

    def __init__(self, outputs: dict[tuple[int, ...], torch.Tensor], *, pad_id: int) -> None:
        super().__init__()
        self._outputs = outputs
        self._pad_id = pad_id

    def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        """Shape (texts, tokens) to (texts, tokens, hidden size), zero where a text is padded."""
        rows = [self._outputs[_unpadded(row, self._pad_id)] for row in input_ids.tolist()]
        states = torch.zeros(*input_ids.shape, rows[0].shape[1])
        for state, row in zip(states, rows, strict=True):
            state[: len(row)] = row
        return states.to(input_ids.device)


@contextlib.contextmanager
def lower_layers(
    encoder: Encoder, *, layers: int, token_ids: Sequence[list[int]], on: Machine, printer: Printer
) -> Iterator[None]:
    """Freezes lower layers: within the block `encoder.model` has only the layers above them.

    It takes the same inputs and returns the same outputs as the whole model, but only for the given
    texts. After the block it is whole again. The outputs of the frozen layers are computed without
    dropout and held in main memory: tokens of all texts x hidden size x 4 bytes.

    Args:
        encoder: The base model.
        layers: Number of layers to freeze, together with the embeddings; 0 freezes nothing.
        token_ids: Token ids, without padding, of every text that the model will see.
        on: The machine.
        printer: Prints the seconds and the memory that the outputs take.

    Raises:
        Refused: The model has fewer layers, or its type is none of `KNOWN`.
    """
    if not layers:
        yield
        return
    base, stack = _parts(encoder, layers)
    embeddings, every = base.embeddings, stack.layer
    try:
        stack.layer = every[:layers]
        looked_up = LookedUp(
            _outputs(encoder, base, token_ids, on=on, printer=printer),
            pad_id=encoder.model.config.pad_token_id,
        )
        base.embeddings, stack.layer = looked_up, every[layers:]
        yield
    finally:
        base.embeddings, stack.layer = embeddings, every


def _parts(encoder: Encoder, layers: int) -> tuple[Any, Any]:
    kind = encoder.model.config.model_type
    if kind not in KNOWN:
        raise Refused(
            f"--freeze-layers {layers}: base model {encoder.name!r} is of type {kind}; layers"
            f" can be frozen in the types {', '.join(KNOWN)}"
        )
    if encoder.tokenizer.padding_side != "right":
        raise Refused(
            f"--freeze-layers {layers}: the tokenizer of {encoder.name!r} pads on the left"
        )
    base = encoder.model.base_model
    there = len(base.encoder.layer)
    if layers > there:
        raise Refused(
            f"--freeze-layers {layers}: base model {encoder.name!r} has {counted(there, 'layer')}"
        )
    return base, base.encoder


def _outputs(
    encoder: Encoder, base: Any, token_ids: Sequence[list[int]], *, on: Machine, printer: Printer
) -> dict[tuple[int, ...], torch.Tensor]:
    began = time.monotonic()
    texts = list(dict.fromkeys(map(tuple, token_ids)))
    base.to(on.device).eval()
    precision = getattr(torch, on.precision)
    reduced = torch.autocast(on.device, precision, enabled=on.precision != "float32")
    found: dict[tuple[int, ...], torch.Tensor] = {}
    with torch.no_grad(), reduced:
        for rows in batches([len(text) for text in texts], TOKEN_BUDGET[on.device]):
            padded = encoder.tokenizer.pad(
                {"input_ids": [list(texts[row]) for row in rows]}, return_tensors="pt"
            ).to(on.device)
            states = base(**padded).last_hidden_state.float().cpu()
            for row, state in zip(rows, states, strict=True):
                # A copy: a slice would keep the whole batch with its padding.
                found[texts[row]] = state[: len(texts[row])].clone()
    size = sum(state.nbytes for state in found.values())
    printer.line(
        f"outputs of the frozen layers for {counted(len(texts), 'text')}: "
        f"{time.monotonic() - began:.0f} s, {size / 2**20:.0f} MiB of memory"
    )
    return found


def _unpadded(row: list[int], pad_id: int) -> tuple[int, ...]:
    # From the end only: a text in which the padding token is written has it in the middle.
    end = len(row)
    while end and row[end - 1] == pad_id:
        end -= 1
    return tuple(row[:end])
