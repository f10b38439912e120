"""How many tokens of a text a model takes.

`emotion-train` knows the same in `train/lengths.py`: neither program may import the other, and
`tests/unit/model/test_agreement.py` compares the two with each other and with transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.errors import Refused
from worker.model.configuration import is_count
from worker.model.files import read_object

if TYPE_CHECKING:
    from pathlib import Path

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


def positions(config: dict[str, Any], pad_token_id: int) -> int:
    """The tokens for which a model has positions; very many where it has no table of them."""
    name = POSITION_SETTINGS.get(str(config.get("model_type")), "max_position_embeddings")
    rows = config.get(name)
    if not is_count(rows):
        return UNLIMITED
    if config.get("model_type") not in OFFSET_POSITIONS:
        return rows
    padding = MPNET_PADDING if config["model_type"] == "mpnet" else pad_token_id
    return rows - padding - 1


def _tokenizer_limit(path: Path) -> int:
    file = path / "tokenizer_config.json"
    limit = read_object(file).get("model_max_length") if file.exists() else None
    if limit is None:
        return UNLIMITED
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
        raise Refused(f"model.checkpoint: model_max_length in {file} is no length")
    return int(min(limit, UNLIMITED))  # transformers writes 1e30 where there is no limit
