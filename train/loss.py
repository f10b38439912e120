"""The loss of a training, where it is not the model's own.

- Texts with a label: cross-entropy, by the label's weight.
- The same where a teacher was asked: a share of it is how far the model's scores are from the
  teacher's, both at the teacher's temperature (Hinton et al., Distilling the Knowledge in a Neural
  Network, 2015). Texts without a label that a teacher was asked about have that part alone.
- Texts of no label (outliers): how far the scores are from even ones (Hendrycks et al., Deep
  Anomaly Detection with Outlier Exposure, ICLR 2019).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from train.settings import RunSettings

NO_LABEL = -1
"""In place of a label. The Trainer counts such a text in a step, as it does not with -100."""

OUTLIER_WEIGHT = 0.5
"""Of an outlier in the loss, beside 1 of a labelled text; that of the paper."""


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights of labels: rows / (labels x rows of the label), as scikit-learn's `balanced`.

    Over the rows they are 1 on average, so that the learning rate means the same with them.

    Args:
        counts: Rows of each label in `train`. A label without any has the weight 1, and does not
            count as one.
    """
    there = sum(1 for count in counts if count)
    return tuple(sum(counts) / (there * count) if count else 1.0 for count in counts)


class Loss:
    """A `compute_loss_func` of the Trainer.

    Args:
        weights: Of each label, shape (labels).
        share: The teacher's share in the loss of a labelled text, 0 to 1.
        temperature: By which the logits of model and teacher are divided where they are compared.
    """

    def __init__(self, weights: torch.Tensor, *, share: float, temperature: float) -> None:
        self.teacher: torch.Tensor | None = None
        """The teacher's logits for the texts of the next step, shape (texts, labels); NaN for a
        text that it was not asked about. None: it was asked about none."""
        self._weights = weights
        self._share = share
        self._temperature = temperature

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The mean over the texts, without dimensions.

        Args:
            outputs: The model's; `logits` of shape (texts, labels).
            labels: Shape (texts); `NO_LABEL` where there is none.
            num_items_in_batch: Texts of the whole step; None: those of `labels`.
        """
        import torch  # noqa: PLC0415 - weights are told without it

        logits = outputs["logits"].float()
        losses = torch.nn.functional.cross_entropy(
            logits,
            labels,
            weight=self._weights.to(logits.device),
            ignore_index=NO_LABEL,
            reduction="none",
        )
        labelled = labels != NO_LABEL
        taught = torch.zeros_like(labelled)
        if self.teacher is not None:
            teacher = self.teacher.to(logits.device, torch.float32)
            taught = teacher.isfinite().all(dim=-1)
            apart = _apart(logits[taught], teacher[taught], temperature=self._temperature)
            share = torch.where(labelled[taught], self._share, 1.0)
            losses = losses.masked_scatter(taught, (1 - share) * losses[taught] + share * apart)
        outliers = ~(labelled | taught)
        if bool(outliers.any()):
            uneven = OUTLIER_WEIGHT * _uneven(logits[outliers])
            losses = losses.masked_scatter(outliers, uneven)
        total = losses.sum()
        if num_items_in_batch is None:
            return total / len(labels)
        # Not by the sum of the weights, as torch's mean does: a text would weigh less beside rare
        # labels. Several GPUs get the number once each, and the Trainer multiplies by their count.
        return total / torch.as_tensor(num_items_in_batch).sum()


def loss_of(settings: RunSettings, counts: Sequence[int]) -> Loss | None:
    """The loss that the settings ask for; None: the model's own, the mean cross-entropy.

    Args:
        settings: The user's.
        counts: Rows of each label that are trained on.
    """
    plain = settings.class_weights == "none"
    if plain and not settings.outliers and not settings.teacher:
        return None
    import torch  # noqa: PLC0415 - weights are told without it

    weights = torch.ones(len(counts)) if plain else torch.tensor(balanced(counts))
    return Loss(weights, share=settings.teacher_share, temperature=settings.teacher_temperature)


def _apart(logits: torch.Tensor, teacher: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """How far each text's scores are from the teacher's, in nats (Kullback-Leibler).

    Times the square of the temperature, so that its gradient is as large at any.
    """
    import torch  # noqa: PLC0415 - weights are told without it

    ours = torch.log_softmax(logits / temperature, dim=-1)
    theirs = torch.log_softmax(teacher / temperature, dim=-1)
    return (theirs.exp() * (theirs - ours)).sum(dim=-1) * temperature**2


def _uneven(logits: torch.Tensor) -> torch.Tensor:
    """How far each text is from all labels being as likely: 0 where they are, in nats."""
    import torch  # noqa: PLC0415 - weights are told without it

    scores = torch.log_softmax(logits, dim=-1)
    return -scores.mean(dim=-1) - math.log(logits.shape[-1])
