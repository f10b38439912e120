"""The families of models that `encoder.py` builds: how each names its tensors and settings.

Only the ordinary case is described. A configuration that is not exactly as expected raises
`Unusual`: transformers then loads the checkpoint, or refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
}
"""By their names in `config.json`; transformers has some twenty others."""


class Unusual(Exception):
    """The checkpoint is not of the ordinary form; the message names what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that one family gives to its tensors and settings."""

    prefix: str
    """What the names of all tensors but the head's begin with."""
    layer: str
    """What comes before the number of a layer; the names up to `down_norm` follow the number."""
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attended: str = "attention.output.dense"
    attended_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    down_norm: str = "output.LayerNorm"
    dense: str
    """The head's first layer."""
    scores: str
    """The head's last layer."""
    squash: Callable[[torch.Tensor], torch.Tensor] = torch.tanh
    """The activation between the two."""
    types: bool = True
    """Whether there are embeddings of token types. All tokens here are of type 0."""
    width: str = "hidden_size"
    """This and the following: names of settings in `config.json`."""
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    inner: str = "intermediate_size"
    activation: str = "hidden_act"
    epsilon: str | None = "layer_norm_eps"
    """The epsilon of the norms; None: it is 1e-12, and no setting."""
    others: frozenset[str] = frozenset()
    """Names that transformers also takes for these settings, and then decides which counts."""


BERT = Names(prefix="bert", layer="encoder.layer", dense="bert.pooler.dense", scores="classifier")
ROBERTA = Names(
    prefix="roberta",
    layer="encoder.layer",
    dense="classifier.dense",
    scores="classifier.out_proj",
)
DISTILBERT = Names(
    prefix="distilbert",
    layer="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attended="attention.out_lin",
    attended_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    down_norm="output_layer_norm",
    dense="pre_classifier",
    scores="classifier",
    squash=nn.functional.relu,
    types=False,
    width="dim",
    layers="n_layers",
    heads="n_heads",
    inner="hidden_dim",
    activation="activation",
    epsilon=None,
    others=frozenset({"hidden_size", "num_attention_heads", "num_hidden_layers"}),
)
FAMILIES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT,
}
"""By `model_type` of `config.json`."""

_ORDINARY: dict[str, tuple[Any, ...]] = {
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "position_embedding_type": (None, "absolute"),
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
    "per_layer_config": (None, {}),
    "return_dict": (None, True),
    "attn_implementation": (None, "sdpa"),
    "_attn_implementation": (None, "sdpa"),
}
"""Settings that change the network, with the values that leave it as it is built here."""


def usual(config: dict[str, Any]) -> Names:
    """The names of a model's family.

    Args:
        config: What `config.json` holds.

    Raises:
        Unusual: The family is none of `FAMILIES`, or the configuration is not of the ordinary form.
    """
    names = FAMILIES.get(str(config.get("model_type")))
    if names is None:
        raise Unusual(f"model_type {config.get('model_type')}")
    for setting, values in _ORDINARY.items():
        if config.get(setting) not in values:
            raise Unusual(f"{setting} {config[setting]}")
    both = names.others & config.keys()
    if both:
        raise Unusual(f"{min(both)} beside the names of its family")
    return names


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of a network."""

    width: int
    """Of a token's vector between the layers."""
    layers: int
    heads: int
    inner: int
    """Of a token's vector within the feed-forward network."""
    activation: str
    """A name in `ACTIVATIONS`."""
    epsilon: float
    """Of the norms."""


def sizes_of(config: dict[str, Any], names: Names) -> Sizes:
    """The numbers in a configuration.

    Raises:
        Unusual: One is missing or means nothing.
    """
    counts = [config.get(name) for name in (names.width, names.layers, names.heads, names.inner)]
    activation = str(config.get(names.activation))
    epsilon = 1e-12 if names.epsilon is None else config.get(names.epsilon)
    width, layers, heads, inner = (count if isinstance(count, int) else 0 for count in counts)
    if min(width, layers, heads, inner) < 1 or width % heads:
        raise Unusual(f"sizes {counts}")
    if activation not in ACTIVATIONS:
        raise Unusual(f"activation {activation}")
    if not isinstance(epsilon, float):
        raise Unusual(f"{names.epsilon} {epsilon}")
    return Sizes(width, layers, heads, inner, activation, epsilon)
