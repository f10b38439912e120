"""Whether a model's rows are packed or padded: chosen when it is loaded, by its scores and speed.

Packed rows are taken if a text's scores are those of padded rows, whatever its batch mates are, and
if packs are not slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worker.errors import Refused
from worker.model import mates
from worker.model.attention import HEAD_MULTIPLE, SIXTEEN_BITS
from worker.model.device import BFLOAT16_CAPABILITY
from worker.model.encoder import SequenceClassifier
from worker.model.failures import InferenceError
from worker.model.packed import PackedRows
from worker.model.packed_families import NetworkOfTransformers, can_be_packed
from worker.model.tuning import TOLERANCE, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.classifier import TorchClassifier
    from worker.model.padded import PaddedRows

SHARE, ROUNDING = 0.1, 1e-2
"""What is put down to rounding in 16 bit: see `mates.py`, which has the same for float32. A text
that sees another's tokens differs by about the spread."""
SLOWER = 1.2
"""How many times as long packs may take: on a busy machine a timing says no more, and with padded
rows a text waits for others of its length. Where packs are faster they take 0.8 of the time."""
ROUNDS = 3
TIMES = {False: 1, True: 128}
"""Times the texts of `MIXED_LENGTHS` in a batch, on a CPU and on CUDA, where 8 texts would show
what a launch takes, and no more."""
MIXED_LENGTHS = (9, 40, 14, 22, 17, 30, 12, 25)
"""Tokens of texts that come while the model keeps up, when a batch is what there is: those of
tweets."""
EVEN_LENGTH = 22
"""Tokens of texts of one length, of which batches are made while there is a backlog."""


def choose_rows(
    classifier: TorchClassifier, asked: str = "auto", *, expected: np.ndarray | None
) -> str:
    """Takes packed rows where they are right and not slower, else padded ones.

    Args:
        classifier: A model in its final precision, with padded rows.
        asked: `auto`, or what is wanted, whichever is faster: `packed` or `padded`.
        expected: `reference()` of the model in float32; None where it cannot run.

    Returns:
        Why rows are padded; empty where they are packed.

    Raises:
        Refused: Packed rows were asked for, and the model cannot be run so.
    """
    if asked == "padded":
        return "asked for"
    reason = _missing(classifier) if expected is not None else "the model cannot be tried"
    if not reason and expected is not None:
        packed = _packed(classifier)
        reason = _against(classifier, packed, expected, asked)
        classifier.rows = packed
        if reason:
            packed.close()
            classifier.rows = classifier.padded
    if reason and asked == "packed":
        raise Refused(f"model.rows: {reason}: set auto or padded")
    return reason


def _against(
    classifier: TorchClassifier, packed: PackedRows, expected: np.ndarray, asked: str
) -> str:
    """What speaks against packed rows; empty: nothing does."""
    try:
        if not _right(classifier, packed, expected):
            return "packed rows have other scores"
        if asked == "auto" and not _faster(classifier, packed):
            return "packed rows are slower"
    except InferenceError as error:
        return f"packed rows fail: {error}"
    return ""


def _missing(classifier: TorchClassifier) -> str:
    """Why there can be no packed rows; empty where there can."""
    if classifier.padded.typed:
        return "the tokenizer gives token types"
    if classifier.device.type == "cuda":
        missing = _missing_on_cuda(classifier)
        if missing:
            return missing
    network = classifier.network
    if not isinstance(network, SequenceClassifier) and not can_be_packed(network):
        return f"no packs of the family {classifier.checkpoint.config.get('model_type')}"
    return ""


def _missing_on_cuda(classifier: TorchClassifier) -> str:
    """What attention over packs lacks on this GPU; empty where it lacks nothing."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401, PLC0415 - only looked for
    except ImportError:
        return f"torch {torch.__version__} has no varlen_attn"
    if torch.cuda.get_device_capability(classifier.device) < BFLOAT16_CAPABILITY:
        return "the GPU is older than Ampere, for which there is no kernel"
    if classifier.dtype not in SIXTEEN_BITS:
        return "packs need 16 bit"
    if _head_width(classifier.network) % HEAD_MULTIPLE:
        return f"the width of a head is no multiple of {HEAD_MULTIPLE}"
    return ""


def _head_width(network: Any) -> int:
    """Of a network that is built here, or of one of transformers."""
    if isinstance(network, SequenceClassifier):
        return network.head_width
    config = network.config
    return int(config.hidden_size) // int(config.num_attention_heads)


def _packed(classifier: TorchClassifier) -> PackedRows:
    network: Any = classifier.network
    if not isinstance(network, SequenceClassifier):
        network = NetworkOfTransformers(network)
    return PackedRows(checkpoint=classifier.checkpoint, network=network)


def _right(classifier: TorchClassifier, packed: PackedRows, expected: np.ndarray) -> bool:
    """Whether texts have padded rows' scores: in one pack, in another order, and alone."""
    rows = classifier.samples()
    padded = _logits(classifier, classifier.padded, rows)
    sixteen = classifier.dtype in SIXTEEN_BITS
    share, rounding = (SHARE, ROUNDING) if sixteen else (mates.SHARE, mates.ROUNDING)
    packs = (
        _logits(classifier, packed, rows),
        _logits(classifier, packed, rows[::-1])[::-1],
        np.concatenate([_logits(classifier, packed, [row]) for row in rows]),
    )
    for found in packs:
        scores = _softmax(found / classifier.checkpoint.temperature)
        # Not "greater": a score that is no number is not right either.
        if not np.abs(scores - expected).max() <= TOLERANCE:
            return False
        if mates.difference(found, padded, rounding=rounding) > share:
            return False
    return True


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


@torch.inference_mode()
def _logits(
    classifier: TorchClassifier, way: PaddedRows | PackedRows, rows: Sequence[Sequence[int]]
) -> np.ndarray:
    """Float32, shape (rows, labels)."""
    classifier.rows = way
    array: np.ndarray = classifier.logits(classifier.stage(rows)).float().cpu().numpy()
    return array


def _faster(classifier: TorchClassifier, packed: PackedRows) -> bool:
    """Whether packs are not slower, over a batch of mixed lengths and one of a single length."""
    longest = classifier.checkpoint.max_length
    times = TIMES[classifier.device.type == "cuda"]
    mixed = [classifier.filler(min(length, longest)) for length in MIXED_LENGTHS] * times
    even = [classifier.filler(min(EVEN_LENGTH, longest))] * len(mixed)
    best: dict[tuple[bool, int], float] = {}
    for _ in range(ROUNDS):
        for index, rows in enumerate((mixed, even)):
            for way in (packed, classifier.padded):  # in turns: a busy moment falls on both
                classifier.rows = way
                key = (way is packed, index)
                best[key] = min(best.get(key, float("inf")), seconds(classifier, rows))
    return best[True, 0] + best[True, 1] <= SLOWER * (best[False, 0] + best[False, 1])
