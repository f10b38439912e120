"""For how many tokens a model has positions, by its `config.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def positions(config: Mapping[str, Any], pad_token_id: int) -> int:
    """The tokens for which a model has positions; very many where it has no table of them.

    Args:
        config: What `config.json` holds.
        pad_token_id: The padding id that the model uses.
    """
    kind = config.get("model_type")
    rows = config.get(POSITION_SETTINGS.get(str(kind), "max_position_embeddings"))
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        return UNLIMITED
    if kind not in OFFSET_POSITIONS:
        return rows
    return rows - (MPNET_PADDING if kind == "mpnet" else pad_token_id) - 1
