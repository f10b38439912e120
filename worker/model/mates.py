"""Whether a text's scores depend on the texts that share its batch.

Rows of a batch are padded to its longest. A model must not see the padding, or a text's label would
change with its batch mates. Some see it on one side only: XLNet, which reads its answer at the last
place, on the right; models whose positions count from the row's first place, on the left. Others
see it wherever it is (FNet, ConvBERT), and cannot be served in batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from worker.errors import Refused
from worker.model.encoder import SequenceClassifier
from worker.model.padded import HostBatch
from worker.model.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.classifier import TorchClassifier
    from worker.model.padded import Side

log = structlog.get_logger(__name__)

SHARE = 0.02
"""Largest difference of a logit, as a share of the spread of the logits over the sample texts, that
is put down to rounding. A model that sees padding moves them by about the spread itself."""
ROUNDING = 1e-4
"""The same as a share of the largest logit, for models whose logits hardly differ: float32 leaves
1e-6 to 1e-5 after dozens of layers."""


def settle_side(classifier: TorchClassifier, *, asked: Side) -> None:
    """Pads rows where the model does not see it: on the side that was asked for, else the other.

    The texts are compared in float32, without rounding of a reduced precision.

    Args:
        classifier: A model as it was read, in float32.
        asked: The side that the tokenizer names.

    Raises:
        Refused: The logits of a text depend on its batch mates, whichever side is padded.
        InferenceError: The model cannot label a text.
    """
    *rows, longest = sorted((ids for ids, _ in classifier.tokenize(SAMPLES)), key=len)
    # Not the longest, which no batch of these pads.
    alone = np.concatenate([_logits(classifier, [row]) for row in rows])
    # The networks that are built here read their answer at the first place.
    sides: list[Side] = ["right"]
    if not isinstance(classifier.network, SequenceClassifier):
        sides = ["left", "right"] if asked == "left" else ["right", "left"]
    apart = float("inf")
    for side in sides:
        classifier.padded.side = side
        apart = min(apart, difference(_logits(classifier, [*rows, longest])[:-1], alone))
        if apart <= SHARE:
            if side != asked:
                log.info("padding_side", asked=asked, instead=side)
            return
    raise Refused(
        f"model.checkpoint: the scores of a text by {classifier.checkpoint.path} depend on the "
        f"texts that share its batch (its logits move by {apart:.0%} of their "
        "spread): the model sees padding, and cannot be served in batches; use one whose "
        "attention mask hides it"
    )


def difference(together: np.ndarray, alone: np.ndarray, *, rounding: float = ROUNDING) -> float:
    """How far logits in a batch are from those of the texts alone, as a share of their spread.

    Logits that are not finite are left to another check: 0.

    Args:
        together: Float32, shape (texts, labels).
        alone: The same, of texts that were each a batch of its own.
        rounding: The share of the largest logit that is put down to rounding.
    """
    if not np.isfinite(alone).all():
        return 0.0
    apart = float(np.abs(together - alone).max())
    if apart <= rounding * float(np.abs(alone).max()):
        return 0.0
    spread = float(np.std(alone, axis=0).max())
    share = apart / spread if spread else float("inf")
    return share if np.isfinite(share) else float("inf")


@torch.inference_mode()
def _logits(classifier: TorchClassifier, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Float32, shape (rows, labels): as they are padded now, to the longest and no further."""
    padded = classifier.padded.arrays(rows, max(map(len, rows)))
    tensors = tuple(map(torch.from_numpy, padded))
    found = classifier.logits(HostBatch(tensors, list(map(len, rows))))
    array: np.ndarray = found.float().cpu().numpy()
    return array
