"""How many tokens of a text a model takes.

`emotion-worker` knows the same in `worker/model/lengths.py`; `tests/unit/model/test_agreement.py`
compares the two with each other and with transformers.
"""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.errors import Refused
from train.given.positions import LONGEST, SHORTEST, UNLIMITED, positions

COUNTED = 20_000
"""Texts of which the tokens are counted. A second of work; twice as many take two, and hardly move
the length that 99.9 % of the texts have at most."""
FITTING = 0.999
"""Share of the texts of `train` that are not truncated where the user names no length."""
LEAST = 128
"""The length is not less, however short the texts of `train` are: a stream may have longer ones.
Batches are padded to their longest text, so that a greater length costs nothing where there is no
longer text."""
STEP = 8
"""The length is a multiple of it, as GPUs multiply fastest."""


def counted_of(texts: Sequence[str], *, seed: int) -> Sequence[str]:
    """The texts of which the tokens are counted: all, or `COUNTED` that are drawn at random."""
    if len(texts) <= COUNTED:
        return texts
    return random.Random(seed).sample(texts, COUNTED)  # noqa: S311 - no secret


def by_data(counts: Sequence[int], *, most: int) -> int:
    """The tokens of a text on which a base model is trained where the user names no number.

    Args:
        counts: Tokens of each text, special tokens included, without truncation.
        most: As many as the model takes, at most `LONGEST`.

    Returns:
        As many as the share `FITTING` of the texts have at most, rounded up to a multiple of
        `STEP`; not less than `LEAST`, and not more than `most`.
    """
    fitting = sorted(counts)[math.ceil(FITTING * len(counts)) - 1]
    return min(max(LEAST, math.ceil(fitting / STEP) * STEP), most)


def for_training(*, asked: int, tokenizer_limit: float, config: dict[str, Any]) -> int:
    """The tokens of a text on which a base model is trained, special tokens included.

    Args:
        asked: The user's `--max-length`.
        tokenizer_limit: The tokenizer's `model_max_length`; 1e30 where there is no limit.
        config: What `config.json` holds.

    Returns:
        The least of the three limits.

    Raises:
        Refused: It leaves no room for a word.
    """
    return _with_room(int(min(asked, tokenizer_limit, _positions(config))))


def of_checkpoint(checkpoint: Path, config: dict[str, Any], *, asked: int | None) -> int:
    """The tokens of a text that a checkpoint reads, special tokens included.

    Args:
        checkpoint: Its directory; `tokenizer_config.json` is read.
        config: What `config.json` holds.
        asked: The manifest's; None where it names none.

    Returns:
        What was asked, else `LONGEST` or the tokenizer's limit; never more than the model has
        positions.

    Raises:
        Refused: A limit means nothing, or leaves no room for a word.
    """
    unasked = min(LONGEST, _tokenizer_limit(checkpoint))
    return _with_room(min(unasked if asked is None else asked, _positions(config)))


def _positions(config: dict[str, Any]) -> int:
    return positions(config, config.get("pad_token_id") or 0)


def _with_room(length: int) -> int:
    if length < SHORTEST:
        raise Refused(
            f"there is room for {length} tokens of a text, too few for one word: max_length, the"
            " tokenizer's model_max_length or the model's max_position_embeddings is wrong"
        )
    return length


def _tokenizer_limit(checkpoint: Path) -> int:
    file = checkpoint / "tokenizer_config.json"
    if not file.exists():
        return UNLIMITED
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"{file.name} cannot be read") from error
    if not isinstance(content, dict):
        raise Refused(f"{file.name} is not a JSON object")
    limit = content.get("model_max_length")
    if limit is None:
        return UNLIMITED
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
        raise Refused(f"model_max_length in {file.name} is no length")
    return int(min(limit, UNLIMITED))
