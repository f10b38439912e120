"""The loss of a training, where it is not the model's own.

Texts of no label (outliers) are in it too: the model should find each label as likely (Hendrycks et
al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from train.settings import RunSettings

NO_LABEL = -100
"""The label of a text of no label: the Trainer does not count it among the texts of a step."""

OUTLIER_WEIGHT = 0.5
"""Of a text of no label in the loss, beside 1 of a labelled one; that of the paper."""

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
        counts: Rows of each label that are trained on.
    """
    if settings.class_weights == "none" and not settings.outliers:
        return None
    import torch  # noqa: PLC0415 - the weights are told without it

    plain = settings.class_weights == "none"
    weights = torch.ones(len(counts)) if plain else torch.tensor(balanced(counts))

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"].float()
        total = torch.nn.functional.cross_entropy(
            logits,
            labels,
            weight=weights.to(logits.device),
            ignore_index=NO_LABEL,
            reduction="sum",
        )
        none = labels == NO_LABEL
        if bool(none.any()):
            total = total + OUTLIER_WEIGHT * _from_uniform(logits[none]).sum()
        if num_items_in_batch is None:
            return total / len(labels)
        # Not by the sum of the weights, as torch's mean does: a text would weigh less beside rare
        # labels. Several GPUs get the number once each, and the Trainer multiplies by their count.
        # A step may have texts of no label alone.
        return total / torch.as_tensor(num_items_in_batch).sum().clamp(min=1)

    return loss


def _from_uniform(logits: Any) -> Any:
    """How far each text is from all labels being as likely: 0 where they are, in nats."""
    import torch  # noqa: PLC0415 - the loss is made without it

    scores = torch.log_softmax(logits, dim=-1)
    return -scores.mean(dim=-1) - math.log(logits.shape[-1])
