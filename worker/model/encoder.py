"""BERT and its closest relatives, for inference, in torch alone.

transformers would build the same networks, yet importing any of its model classes also imports
dynamo, inductor, sympy and distributed, which nothing here uses: 6 to 9 CPU seconds of a start and
230 MB of memory. The scores are those of transformers to within 1e-6: tests compare every family.

    token ids -> Embedding -> Layer x N -> first token -> head -> logits
                              attention, add, norm, feed forward, add, norm

Rows are padded to one length (`forward`), or stand end to end (`packed`).

Only the ordinary case is built here. A configuration or a tensor that is not exactly as expected
raises `Unusual`: transformers then loads the checkpoint, or refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from worker.given.positions import OFFSET_POSITIONS
from worker.model.attention import OverPack, over_rows
from worker.model.families import ACTIVATIONS, Unusual, sizes_of, usual

if TYPE_CHECKING:
    from worker.model.attention import Attend, Pack
    from worker.model.families import Names, Sizes


class Output(NamedTuple):
    """What a forward pass returns: it has `logits`, as the outputs of transformers have."""

    logits: torch.Tensor
    """Shape (rows, labels)."""


class Embedding(nn.Module):
    """Token ids to vectors: the sum of a token's and its position's, normalised."""

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
        offset = tensors.config["model_type"] in OFFSET_POSITIONS
        self._padding = tensors.config["pad_token_id"] if offset else None

    def forward(self, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of the tokens, with the shape of `ids` and the width.

        Args:
            ids: Int64, shape (rows, length), or (tokens,) of a pack.
            positions: Each token's row in the table of positions. None: as they stand in rows.
        """
        vectors = nn.functional.embedding(ids, self.words)
        if self.kind is not None:
            vectors = vectors + self.kind
        if positions is None:
            placed = self._placed(ids)
        else:
            placed = nn.functional.embedding(positions, self.positions)
        normalised: torch.Tensor = self.norm(vectors + placed)
        return normalised

    def _placed(self, ids: torch.Tensor) -> torch.Tensor:
        # With an offset, tokens count from the padding id on, and padding has the padding id.
        if self._padding is None:
            return self.positions[: ids.shape[1]]
        real = ids.ne(self._padding).int()
        places = (torch.cumsum(real, dim=1).int() * real).long() + self._padding
        return nn.functional.embedding(places, self.positions)


class Layer(nn.Module):
    """Attention over the text, then a feed-forward network for each token."""

    def __init__(self, tensors: _Tensors, names: Names, at: str, sizes: Sizes) -> None:
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

    def forward(self, rows: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Shape (..., width) to the same.

        Args:
            rows: Vectors of the tokens, shape (rows, length, width), or (tokens, width) of a pack.
            attend: Attention within each text.
        """
        heads = (*rows.shape[:-1], self._heads, -1)
        query, key, value = (one(rows).view(heads) for one in (self.query, self.key, self.value))
        found = attend(query, key, value).reshape(rows.shape)
        rows = self.attended_norm(self.attended(found) + rows)
        inner = self.down(self._activate(self.up(rows)))
        normalised: torch.Tensor = self.down_norm(inner + rows)
        return normalised


class SequenceClassifier(nn.Module):
    """An encoder and its head, called as the models of transformers are."""

    def __init__(self, tensors: _Tensors, names: Names, sizes: Sizes, labels: int) -> None:
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
        self.head_width = width // sizes.heads

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> Output:
        """Logits of each row.

        Args:
            input_ids: Int64, shape (rows, length).
            attention_mask: The same: 1 for tokens, 0 for padding. None where nothing is padding:
                attention then takes its fastest kernel. The caller knows it on the host; finding
                it out here would wait for the device.
        """
        mask = None
        if attention_mask is not None:
            mask = attention_mask.bool()[:, None, None, :].expand(-1, 1, input_ids.shape[1], -1)
        rows = self._through(self.embedding(input_ids), over_rows(mask))
        return Output(self._scored(rows[:, 0]))

    def packed(self, ids: torch.Tensor, positions: torch.Tensor, pack: Pack) -> torch.Tensor:
        """Logits of each text of a pack, shape (texts, labels).

        Args:
            ids: Int64, shape (tokens,).
            positions: Of the tokens, in the table of positions; likewise.
            pack: Where the texts are.
        """
        rows = self._through(self.embedding(ids, positions), OverPack(pack))
        return self._scored(rows[pack.begins[:-1].long()])

    def _through(self, rows: torch.Tensor, attend: Attend) -> torch.Tensor:
        for layer in self.layers:
            rows = layer(rows, attend)
        return rows

    def _scored(self, first: torch.Tensor) -> torch.Tensor:
        """Logits by each text's first token, shape (texts, width) to (texts, labels)."""
        logits: torch.Tensor = self.classifier(self._squash(self.dense(first)))
        return logits


def build(config: dict[str, Any], tensors: dict[str, torch.Tensor], *, labels: int) -> nn.Module:
    """The network that a checkpoint describes, with its weights.

    Args:
        config: What `config.json` holds.
        tensors: Every tensor of the weights by its name, float32, on the device.
        labels: The number of labels.

    Raises:
        Unusual: The model is of another family, or differs from the ordinary form.
    """
    names = usual(config)
    sizes = sizes_of(config, names)
    left = _Tensors(config, dict(tensors))
    model = SequenceClassifier(left, names, sizes, labels)
    left.all_used()
    return model.eval()


class _Tensors:
    """A checkpoint's tensors: each is taken once, by its name, and must have the expected shape."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        self.config = config
        self._left = tensors

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Linear:
        """A layer with its weight and bias."""
        layer = nn.Linear(inputs, outputs, device="meta")  # holds nothing: no weights to draw
        self._fill(layer, name, (outputs, inputs), (outputs,))
        return layer

    def norm(self, name: str, width: int, epsilon: float) -> nn.LayerNorm:
        """A norm with its weight and bias."""
        layer = nn.LayerNorm(width, eps=epsilon, device="meta")
        self._fill(layer, name, (width,), (width,))
        return layer

    def table(self, name: str, width: int, *, rows: str) -> nn.Parameter:
        """A table of embeddings; `rows` is the setting with their number."""
        count = self.config.get(rows)
        if not isinstance(count, int) or count < 1:
            raise Unusual(f"{rows} {count}")
        return self._take(f"{name}.weight", (count, width))

    def all_used(self) -> None:
        """Checks that every tensor has been taken.

        Raises:
            Unusual: One is left, and it is not the positions 0, 1, 2 ... of old releases.
        """
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
            raise Unusual(f"{name} is missing")
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            raise Unusual(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}")
        return nn.Parameter(tensor, requires_grad=False)
