"""What the worker needs of a model, and the limits of a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from worker.gpu import Gpu
    from worker.layout import Layout


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a micro-batch: rows, and tokens, padding included."""

    max_records: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Abstention:
    """When the worker says that it does not know a text's label.

    `emotion-train threshold` chooses both on texts whose labels are known.
    """

    score: float
    """A label is `low_score` if its score, as it is published, is below this."""
    energy: float
    """A text is `out_of_domain` if its energy is above this."""


IN_FLIGHT_BATCHES = 8
"""Micro-batches in flight by default: enough to find similar lengths, few to hand back."""
FEWEST_IN_FLIGHT = 512
"""Records in flight by default, however small the batches are: with fewer the worker would wait for
the brokers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """The micro-batch limits in force, and how many records may be in flight."""

    max_records: int
    max_tokens: int
    in_flight: int


def batching(
    limits: BatchLimits, *, max_records: int | None, max_tokens: int | None, in_flight: int | None
) -> Batching:
    """The limits that are set; for the others, what suits the model's device."""
    records = max_records or limits.max_records
    return Batching(
        max_records=records,
        max_tokens=max_tokens or limits.max_tokens,
        in_flight=in_flight or max(FEWEST_IN_FLIGHT, IN_FLIGHT_BATCHES * records),
    )


class Classifier(Protocol):
    """What the worker needs of a model. Any object with these members can be used as one.

    A method may raise anything. An attribute `kind` of the exception says what failed: `oom` is a
    lack of memory, so smaller batches are tried; `device` is a device that computes nothing more
    for this process, so the worker ends at once.
    """

    @property
    def name(self) -> str:
        """Name of the checkpoint."""

    @property
    def version(self) -> str:
        """Version of the checkpoint."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the scores."""

    @property
    def label_shares(self) -> dict[str, float] | None:
        """Each label's part of the training data, where it is known."""

    @property
    def abstention(self) -> Abstention | None:
        """When the worker abstains; None: never."""

    @property
    def limits(self) -> BatchLimits:
        """The limits that suit the model's device, where none are set."""

    @property
    def layout(self) -> Layout:
        """How a batch's rows stand in memory."""

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that the model runs on; None where it runs on none."""

    @property
    def depth(self) -> int:
        """How many batches may be launched before the first one's scores are read."""

    def tokenize(self, texts: Sequence[str]) -> list[tuple[Sequence[int], bool]]:
        """Token ids of each text, cut to the maximum length, and whether they were cut.

        The assemble thread's, beside `launch` and `scores`; the main thread's before that.
        """

    def stage(self, rows: Sequence[Sequence[int]]) -> Any:
        """Puts rows of token ids into buffers that can be launched. Any thread."""

    def launch(self, staged: Any) -> Any:
        """Starts the model on staged rows; may return before it is done. The classify thread's."""

    def scores(self, launched: Any) -> np.ndarray:
        """Waits; returns probabilities, float32, shape (rows, labels). The classify thread's.

        With `abstention` the shape is (rows, labels + 1): the last column is each text's energy,
        -logsumexp(logits), of the logits before the temperature. High is unlike what the model was
        trained on (Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020).
        """

    def warm_up(self, *, max_records: int, max_tokens: int) -> None:
        """Runs batches of the shapes that will occur."""

    def memory(self) -> dict[str, int]:
        """Bytes of device memory by kind, empty where there is none to count. Any thread."""
