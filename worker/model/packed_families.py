"""Packs through networks that transformers has built.

A pack is one row to them. Attention is told where each text begins, by an attention function of our
own, for which transformers builds no mask. What follows the last layer takes the first token of a
row: so the texts' first tokens become rows of one token there.

    ids (1, tokens) -> embeddings -> layers -> (1, tokens, width) -> (texts, 1, width) -> head

A family that takes no such function mixes the texts: its networks must say that they do
(`_supports_attention_backend`), and `packing.py` compares the scores.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from worker.model.attention import OverPack

if TYPE_CHECKING:
    import torch

    from worker.model.attention import Pack

LAST_MODULES = {
    "albert": "encoder",
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "modernbert": "final_norm",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
}
"""By `model_type`: the module of the base model that gives the last vectors of all tokens."""

ATTENTION = "emotion_pack"
"""The name under which transformers knows the attention function."""

_pack: ContextVar[Pack | None] = ContextVar("_pack", default=None)
"""The pack that goes through a network of this thread now."""


class NetworkOfTransformers:
    """A network that transformers has built, run on packs.

    Args:
        model: A `…ForSequenceClassification` of a family in `LAST_MODULES`.
    """

    def __init__(self, model: Any) -> None:
        from transformers import AttentionInterface  # noqa: PLC0415 - it has built the model

        AttentionInterface.register(ATTENTION, _attend)
        self._model = model
        last = getattr(model.base_model, LAST_MODULES[model.config.model_type])
        self._hook = last.register_forward_hook(_first_tokens)

    def close(self) -> None:
        """Leaves the network as it was."""
        self._hook.remove()

    def packed(self, ids: torch.Tensor, positions: torch.Tensor, pack: Pack) -> torch.Tensor:
        """As `SequenceClassifier.packed`."""
        config = self._model.config
        former, token = config._attn_implementation, _pack.set(pack)  # noqa: SLF001 - set by no other name
        config._attn_implementation = ATTENTION  # noqa: SLF001
        try:
            found = self._model(input_ids=ids[None], position_ids=positions[None])
        finally:
            config._attn_implementation = former  # noqa: SLF001
            _pack.reset(token)
        logits: torch.Tensor = found.logits
        return logits


def can_be_packed(model: Any) -> bool:
    """Whether a network that transformers has built is of a family that may be run on packs."""
    config = model.config
    known = config.model_type in LAST_MODULES
    # A mean over the tokens would be one over all texts.
    first = getattr(config, "classifier_pooling", "cls") == "cls"
    return known and first and bool(getattr(model, "_supports_attention_backend", False))


def _attend(  # noqa: PLR0917 - as transformers calls it
    module: Any,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text, of the shape (1, heads, tokens, width of a head)."""
    pack = _pack.get()
    if pack is None:
        raise RuntimeError(f"{ATTENTION} is called outside a pack")
    # transformers counts the token itself in.
    reach = None if sliding_window is None else sliding_window - 1
    attend = OverPack(pack, scale=scaling, reach=reach)
    return attend(*(part[0].transpose(0, 1) for part in (query, key, value)))[None], None


def _first_tokens(module: Any, inputs: Any, output: Any) -> Any:  # noqa: ARG001 - torch's hook
    """Each text's first token as a row of its own, while a pack goes through the network."""
    pack = _pack.get()
    if pack is None:
        return None  # what the module has given stays
    firsts = pack.begins[:-1].long()
    if hasattr(output, "last_hidden_state"):
        output.last_hidden_state = output.last_hidden_state[0, firsts][:, None]
        return output
    return output[0, firsts][:, None]
