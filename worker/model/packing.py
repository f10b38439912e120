"""Whether a model's rows are packed or padded: chosen when it is loaded, by its scores and speed.

Packed rows are taken if a text's scores are those of padded rows, whatever its batch mates are, and
if packs are not slower.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from worker.errors import Refused
from worker.model import mates
from worker.model.attention import HEAD_MULTIPLE, SIXTEEN_BITS
from worker.model.encoder import SequenceClassifier
from worker.model.failures import InferenceError
from worker.model.packed import PackedRows
from worker.model.packed_families import NetworkOfTransformers, can_be_packed
from worker.model.tuning import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.classifier import TorchClassifier
    from worker.model.rows import PaddedRows

log = structlog.get_logger(__name__)

FLASH_CAPABILITY = (8, 0)
"""First CUDA compute capability for which `varlen_attn` has a kernel (Ampere)."""
SHARE, ROUNDING = 0.1, 1e-2
"""What is put down to rounding in 16 bit: see `mates.py`, which has the same for float32. A text
that sees another's tokens differs by about the spread."""
SLOWER = 1.1
"""How many times as long packs may take: on a busy machine one timing says no more, and with
padded rows a text waits for others of its length."""
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
    if asked == "padded" or expected is None:
        return "asked for" if asked == "padded" else "the model cannot be tried"
    packed = _packed(classifier)
    reason = packed if isinstance(packed, str) else _against(classifier, packed, expected, asked)
    if reason and asked == "packed":
        raise Refused(f"model.rows: {reason}: set auto or padded")
    if isinstance(packed, PackedRows):
        classifier.way = classifier.rows if reason else packed
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


def _packed(classifier: TorchClassifier) -> PackedRows | str:
    """Packed rows, or why there can be none."""
    network, checkpoint = classifier.network, classifier.checkpoint
    if classifier.rows.typed:
        return "the tokenizer gives token types"
    if classifier.device.type == "cuda":
        missing = _missing_on_cuda(classifier)
        if missing:
            return missing
    if isinstance(network, SequenceClassifier):
        return PackedRows(checkpoint=checkpoint, network=network)
    if not can_be_packed(network):
        return f"no packs of the family {checkpoint.config.get('model_type')}"
    return PackedRows(checkpoint=checkpoint, network=NetworkOfTransformers(network))


def _missing_on_cuda(classifier: TorchClassifier) -> str:
    """What attention over packs lacks on this GPU; empty where it lacks nothing."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401, PLC0415 - only looked for
    except ImportError:
        return f"torch {torch.__version__} has no varlen_attn"
    if torch.cuda.get_device_capability(classifier.device) < FLASH_CAPABILITY:
        return "the GPU is older than Ampere"
    if classifier.dtype not in SIXTEEN_BITS:
        return "packs need 16 bit"
    if _head_width(classifier) % HEAD_MULTIPLE:
        return f"the width of a head is no multiple of {HEAD_MULTIPLE}"
    return ""


def _head_width(classifier: TorchClassifier) -> int:
    network = classifier.network
    if isinstance(network, SequenceClassifier):
        return network.head_width
    config = classifier.checkpoint.config
    heads = config.get("num_attention_heads") or config.get("n_heads") or 1
    return int(config.get("hidden_size") or config.get("dim") or 0) // int(heads)


def _right(classifier: TorchClassifier, packed: PackedRows, expected: np.ndarray) -> bool:
    """Whether texts have padded rows' scores: in one pack, in another order, and alone."""
    rows = classifier.samples()
    padded = _logits(classifier, classifier.rows, rows)
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
    classifier.way = way
    array: np.ndarray = classifier.logits(classifier.stage(rows)).float().cpu().numpy()
    return array


def _faster(classifier: TorchClassifier, packed: PackedRows) -> bool:
    """Whether packs are not slower, over a batch of mixed lengths and one of a single length."""
    mixed = [classifier.filler(min(n, classifier.checkpoint.max_length)) for n in MIXED_LENGTHS]
    even = [classifier.filler(min(EVEN_LENGTH, classifier.checkpoint.max_length))] * len(mixed)
    best: dict[tuple[bool, int], float] = {}
    for _ in range(2):
        for index, rows in enumerate((mixed, even)):
            for way in (packed, classifier.rows):  # in turns: a busy moment falls on both
                classifier.way = way
                key = (way is packed, index)
                best[key] = min(best.get(key, float("inf")), _seconds(classifier, rows))
    return best[True, 0] + best[True, 1] <= SLOWER * (best[False, 0] + best[False, 1])


def _seconds(classifier: TorchClassifier, rows: list[list[int]]) -> float:
    begin = time.perf_counter()
    classifier.run(rows)
    return time.perf_counter() - begin
