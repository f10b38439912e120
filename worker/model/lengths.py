"""How many tokens of a text a model takes.

`emotion-train` knows the same in `train/lengths.py`; `tests/unit/model/test_agreement.py` compares
the two with each other and with transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.errors import Refused
from worker.given.positions import LONGEST, SHORTEST, UNLIMITED, positions
from worker.model.files import read_object

if TYPE_CHECKING:
    from pathlib import Path


def max_length(path: Path, config: dict[str, Any], *, asked: int | None, pad_token_id: int) -> int:
    """The longest input in tokens, special tokens included.

    Args:
        path: The checkpoint directory; `tokenizer_config.json` is read.
        config: What `config.json` holds.
        asked: The manifest's; None where it names none.
        pad_token_id: The configuration's.

    Returns:
        What was asked, else `LONGEST` or the tokenizer's limit; never more than the model has
        positions.

    Raises:
        Refused: A limit means nothing, or leaves no room for a word.
    """
    unasked = min(LONGEST, _tokenizer_limit(path))
    longest = min(unasked if asked is None else asked, positions(config, pad_token_id))
    if longest < SHORTEST:
        raise Refused(
            f"model.checkpoint: {path} leaves room for {longest} tokens of a text, too few for one "
            "word: max_length of manifest.json, model_max_length of tokenizer_config.json or "
            "max_position_embeddings of config.json is wrong"
        )
    return longest


def _tokenizer_limit(path: Path) -> int:
    file = path / "tokenizer_config.json"
    limit = read_object(file).get("model_max_length") if file.exists() else None
    if limit is None:
        return UNLIMITED
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
        raise Refused(f"model.checkpoint: model_max_length in {file} is no length")
    return int(min(limit, UNLIMITED))  # transformers writes 1e30 where there is no limit
