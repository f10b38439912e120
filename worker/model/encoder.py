"""BERT and its closest relatives, for inference, in torch alone.

transformers would build the same networks, yet importing any of its model classes also imports
dynamo, inductor, sympy and distributed, which nothing here uses: 6 to 9 CPU seconds of a start and
230 MB of memory. Scores are the library's to within 1e-6: the tests compare every family.

    token ids -> Embedding -> Layer x N -> first token -> head -> logits
                              attention, add, norm, feed forward, add, norm

Only the ordinary case is built here. A configuration or a tensor that is not exactly as expected
raises ``Unusual``: the checkpoint is then the library's, to be loaded or refused by its rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
}
"""By the names in config.json; the library has some twenty others."""


class Unusual(Exception):
    """The checkpoint is not of the ordinary form; the message names what differs."""


class Output(NamedTuple):
    """What a forward pass returns, in the shape of the library's."""

    logits: torch.Tensor
    """Shape (rows, labels)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How one family calls its tensors and settings."""

    prefix: str
    """Of all tensors but the head's."""
    layer: str
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
    """Between the two."""
    types: bool = True
    """Whether token types have embeddings. All texts here are of type 0."""
    after_padding: bool = False
    """Positions count from the padding id on, and padding has the padding id's position."""
    width: str = "hidden_size"
    """From here on: names of settings in config.json."""
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    inner: str = "intermediate_size"
    activation: str = "hidden_act"
    epsilon: str | None = "layer_norm_eps"
    """Of the norms; None: 1e-12, which is not a setting."""
    others: frozenset[str] = frozenset()
    """Names that the library also takes for these settings; with them it decides which counts."""


BERT = Names(prefix="bert", layer="encoder.layer", dense="bert.pooler.dense", scores="classifier")
ROBERTA = Names(
    prefix="roberta",
    layer="encoder.layer",
    dense="classifier.dense",
    scores="classifier.out_proj",
    after_padding=True,
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
"""By ``model_type`` of config.json."""

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
"""Settings that change the network, and their values that do not."""


class Embedding(nn.Module):
    """Token ids to vectors: what the token is, plus where it stands."""

    def __init__(self, tensors: _Tensors, names: Names, *, width: int, epsilon: float) -> None:
        super().__init__()
        at = f"{names.prefix}.embeddings"
        self.words = tensors.table(f"{at}.word_embeddings", width, rows="vocab_size")
        self.positions = tensors.table(
            f"{at}.position_embeddings", width, rows="max_position_embeddings"
        )
        self.kind = None
        if names.types:
            types = tensors.table(f"{at}.token_type_embeddings", width, rows="type_vocab_size")
            self.kind = nn.Parameter(types[0].clone(), requires_grad=False)
        self.norm = tensors.norm(f"{at}.LayerNorm", width, epsilon)
        self._padding = tensors.config["pad_token_id"] if names.after_padding else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shape (rows, length) to (rows, length, width)."""
        vectors = nn.functional.embedding(ids, self.words)
        if self.kind is not None:
            vectors = vectors + self.kind
        normalised: torch.Tensor = self.norm(vectors + self._placed(ids))
        return normalised

    def _placed(self, ids: torch.Tensor) -> torch.Tensor:
        if self._padding is None:
            return self.positions[: ids.shape[1]]
        real = ids.ne(self._padding).int()
        places = (torch.cumsum(real, dim=1).int() * real).long() + self._padding
        return nn.functional.embedding(places, self.positions)


class Layer(nn.Module):
    """Attention over the text, then a feed-forward network for each token."""

    def __init__(self, tensors: _Tensors, names: Names, at: str, sizes: _Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.query = tensors.linear(f"{at}.{names.query}", width, width)
        self.key = tensors.linear(f"{at}.{names.key}", width, width)
        self.value = tensors.linear(f"{at}.{names.value}", width, width)
        self.attended = tensors.linear(f"{at}.{names.attended}", width, width)
        self.attended_norm = tensors.norm(f"{at}.{names.attended_norm}", width, sizes.epsilon)
        self.up = tensors.linear(f"{at}.{names.up}", width, sizes.inner)
        self.down = tensors.linear(f"{at}.{names.down}", sizes.inner, width)
        self.down_norm = tensors.norm(f"{at}.{names.down_norm}", width, sizes.epsilon)
        self._heads = sizes.heads
        self._activate = ACTIVATIONS[sizes.activation]

    def forward(self, rows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Shape (rows, length, width); ``mask`` is true where a token may be looked at."""
        query, key, value = (self._split(one(rows)) for one in (self.query, self.key, self.value))
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = found.transpose(1, 2).reshape(rows.shape)
        rows = self.attended_norm(self.attended(found) + rows)
        inner = self.down(self._activate(self.up(rows)))
        normalised: torch.Tensor = self.down_norm(inner + rows)
        return normalised

    def _split(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape (rows, length, width) to (rows, heads, length, width of a head)."""
        return rows.view(*rows.shape[:2], self._heads, -1).transpose(1, 2)


class SequenceClassifier(nn.Module):
    """An encoder and its head. Called as the library's models are."""

    def __init__(self, tensors: _Tensors, names: Names, sizes: _Sizes, labels: int) -> None:
        super().__init__()
        width = sizes.width
        self.embedding = Embedding(tensors, names, width=width, epsilon=sizes.epsilon)
        self.layers = nn.ModuleList(
            Layer(tensors, names, f"{names.prefix}.{names.layer}.{index}", sizes)
            for index in range(sizes.layers)
        )
        self.dense = tensors.linear(names.dense, width, width)
        self.classifier = tensors.linear(names.scores, width, labels)
        self._squash = names.squash

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> Output:
        """Logits of each row; both arguments int64, shape (rows, length).

        Without a mask nothing is padding, and attention takes its fastest kernel. Who calls knows
        it on the host: to look here would wait for the device.
        """
        mask = None
        if attention_mask is not None:
            mask = attention_mask.bool()[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1)
        rows = self.embedding(input_ids)
        for layer in self.layers:
            rows = layer(rows, mask)
        return Output(self.classifier(self._squash(self.dense(rows[:, 0]))))


def build(config: dict[str, Any], tensors: dict[str, torch.Tensor], *, labels: int) -> nn.Module:
    """The network that a checkpoint describes, with its weights.

    Args:
        config: What config.json holds.
        tensors: Every tensor of the weights by its name, float32, on the device.
        labels: Width of the head.

    Raises:
        Unusual: It is of another family, or something differs from the ordinary form.
    """
    names = usual(config)
    sizes = _sizes(config, names)
    left = _Tensors(config, dict(tensors))
    model = SequenceClassifier(left, names, sizes, labels)
    left.all_used()
    return model.eval()


def usual(config: dict[str, Any]) -> Names:
    """The family's names, where a configuration is of the ordinary form.

    Raises:
        Unusual: It is not.
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
class _Sizes:
    width: int
    layers: int
    heads: int
    inner: int
    activation: str
    epsilon: float


def _sizes(config: dict[str, Any], names: Names) -> _Sizes:
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
    return _Sizes(width, layers, heads, inner, activation, epsilon)


class _Tensors:
    """A checkpoint's tensors: each is taken once, by its name, with the shape that it must have."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        self.config = config
        self._left = tensors

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Linear:
        layer = nn.Linear(inputs, outputs, device="meta")  # holds nothing: no weights to draw
        self._fill(layer, name, (outputs, inputs), (outputs,))
        return layer

    def norm(self, name: str, width: int, epsilon: float) -> nn.LayerNorm:
        layer = nn.LayerNorm(width, eps=epsilon, device="meta")
        self._fill(layer, name, (width,), (width,))
        return layer

    def table(self, name: str, width: int, *, rows: str) -> nn.Parameter:
        count = self.config.get(rows)
        if not isinstance(count, int) or count < 1:
            raise Unusual(f"{rows} {count}")
        return self._take(f"{name}.weight", (count, width))

    def all_used(self) -> None:
        """Raises ``Unusual`` if a tensor is left that means something."""
        # Old releases saved the positions 0, 1, 2 ... beside the weights.
        left = [name for name in self._left if not name.endswith(".embeddings.position_ids")]
        if left:
            raise Unusual(f"{min(left)} is not part of the network")

    def _fill(
        self,
        layer: nn.Linear | nn.LayerNorm,
        name: str,
        weight: tuple[int, ...],
        bias: tuple[int, ...],
    ) -> None:
        layer.weight = self._take(f"{name}.weight", weight)
        layer.bias = self._take(f"{name}.bias", bias)

    def _take(self, name: str, shape: tuple[int, ...]) -> nn.Parameter:
        tensor = self._left.pop(name, None)
        if tensor is None:
            raise Unusual(f"{name} is not there")
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            raise Unusual(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}")
        return nn.Parameter(tensor, requires_grad=False)
