"""How many tokens of a text a model takes.

`emotion-worker` knows the same in `worker/model/lengths.py`: neither program may import the other,
and `tests/unit/model/test_agreement.py` compares the two with each other and with transformers.
"""

import json
from pathlib import Path
from typing import Any

from train.errors import Refused

LONGEST = 512
"""Tokens kept of a text where nothing says otherwise; tokenizers may claim 1e30."""

SHORTEST = 3
"""A token between the two that begin and end a text."""

OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Model types whose position table starts at the padding id + 1: the rows before it hold no token.
One token too many is an index error, which on CUDA ends the process.

These are all of transformers' sequence classifiers that do so (release 5.23, found by running
each). `bertweet` is none: it is the name of a tokenizer, whose models are of type `roberta`."""

MPNET_PADDING = 1
"""MPNet's positions start behind this id whatever the configuration's padding id is."""

POSITION_SETTINGS = {
    "ctrl": "n_positions",
    "gpt2": "n_positions",
    "gpt_bigcode": "n_positions",
    "gptj": "n_positions",
    "led": "max_encoder_position_embeddings",
    "openai-gpt": "n_positions",
}
"""Model types that name the size of their position table otherwise. Not T5: its `n_positions` is no
limit."""

UNLIMITED = 2**31
"""Stands for no limit."""


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
    return _with_room(int(min(asked, tokenizer_limit, positions(config))))


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
    return _with_room(min(unasked if asked is None else asked, positions(config)))


def positions(config: dict[str, Any]) -> int:
    """The tokens for which a model has positions; very many where it has no table of them."""
    name = POSITION_SETTINGS.get(str(config.get("model_type")), "max_position_embeddings")
    rows = config.get(name)
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        return UNLIMITED
    if config.get("model_type") not in OFFSET_POSITIONS:
        return rows
    padding = MPNET_PADDING if config["model_type"] == "mpnet" else config.get("pad_token_id")
    return rows - (padding or 0) - 1


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
