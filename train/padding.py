"""Whether a text's logits depend on the texts that share its batch, and so where rows are padded.

`emotion-worker` asks the same of a checkpoint in `worker/model/mates.py`: neither program may
import the other, and `tests/unit/model/test_agreement.py` compares the two.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from train.errors import Refused

Side = Literal["right", "left"]
Floats = NDArray[np.float64]

SAMPLES = (
    "ok",
    "nothing to report",
    "My father died today",
    "i feel so happy that you are here",
    "I ❤️ this song, haven't slept, don't care #monday",
    "what on earth was that noise in the middle of the night, i am still shaking",
    "she said it would be fine and then it was not fine at all " * 6,
)
"""Texts of several lengths, the longest last."""

SHARE = {"float32": 0.02, "float16": 0.1, "bfloat16": 0.3}
"""By precision: largest difference of a logit, as a share of the spread of the logits over the
samples, that is put down to rounding. A model that sees padding moves them by about the spread."""
ROUNDING = {"float32": 1e-4, "float16": 3e-3, "bfloat16": 2e-2}
"""The same as a share of the largest logit, for models whose logits hardly differ."""


def choose_side(
    logits: Callable[[Sequence[str], Side], Floats], *, asked: str, precision: str
) -> Side:
    """The side on which rows are padded: the one that is asked for, else the other.

    XLNet reads its answer at the last place, BERT at the first: padding there would change it.

    Args:
        logits: Those of texts that are one batch, padded on a side; shape (texts, labels).
        asked: The side that the tokenizer names.
        precision: Of the model.

    Raises:
        Refused: The logits of a text depend on its batch mates, whichever side is padded.
    """
    alone = np.concatenate([logits([text], "right") for text in SAMPLES[:-1]])
    sides: tuple[Side, Side] = ("left", "right") if asked == "left" else ("right", "left")
    apart = float("inf")
    for side in sides:
        together = logits(SAMPLES, side)[:-1]
        apart = min(apart, difference(together, alone, rounding=ROUNDING[precision]))
        if apart <= SHARE[precision]:
            return side
    raise Refused(
        "the scores of a text depend on the texts that share its batch (its logits move by"
        f" {apart:.0%} of their spread): the model sees padding; use one whose attention mask"
        " hides it"
    )


def difference(together: Floats, alone: Floats, *, rounding: float) -> float:
    """How far logits in a batch are from those of the texts alone, as a share of their spread.

    Logits that are not finite are left to other checks: 0.
    """
    if not np.isfinite(alone).all():
        return 0.0
    apart = float(np.abs(together - alone).max())
    if apart <= rounding * float(np.abs(alone).max()):
        return 0.0
    spread = float(np.std(alone, axis=0).max())
    share = apart / spread if spread else float("inf")
    return share if np.isfinite(share) else float("inf")
