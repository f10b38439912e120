"""The loss of a training, where it is not the model's own."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from train.settings import RunSettings

Loss: TypeAlias = Callable[..., Any]
"""A `compute_loss_func` of the Trainer: takes the model's outputs, the labels as a tensor of shape
(texts), and `num_items_in_batch`, the texts of the whole step; returns a tensor without dimensions.
"""


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights of labels: rows / (labels x rows of the label), as scikit-learn's `balanced`.

    Over the rows they are 1 on average, so that the learning rate means the same with them.

    Args:
        counts: Rows of each label in `train`. A label without any has the weight 1, and does not
            count as one.
    """
    there = sum(1 for count in counts if count)
    return tuple(sum(counts) / (there * count) if count else 1.0 for count in counts)


def loss_of(settings: RunSettings, counts: Sequence[int]) -> Loss | None:
    """The loss that the settings ask for; None: the model's own, the mean cross-entropy.

    Args:
        settings: The user's.
        counts: Rows of each label in `train`.
    """
    if settings.class_weights == "none":
        return None
    import torch  # noqa: PLC0415 - the weights are told without it

    weights = torch.tensor(balanced(counts))

    def weighted(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"].float()
        total = torch.nn.functional.cross_entropy(
            logits, labels, weight=weights.to(logits.device), reduction="sum"
        )
        if num_items_in_batch is None:
            return total / len(labels)
        # Not by the sum of the weights, as torch's mean does: a text would weigh less beside rare
        # labels. Several GPUs get the number once each, and the Trainer multiplies by their count.
        return total / torch.as_tensor(num_items_in_batch).sum()

    return weighted
