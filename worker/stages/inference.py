"""Micro-batches to outcomes, by any object that keeps the `Classifier` protocol.

Imports no torch. Owned by the classify thread.

A batch that fails is halved until the one record that breaks it is alone, in at most
2·log2(batch) + 2 calls. That record is rejected only if a known-good text passes right after;
otherwise the device itself has failed, and dead-lettering would empty the topic.

A device that computes nothing more for this process says so at the first call: then nothing is
halved and nobody is blamed, the worker ends.

A row whose scores are not finite is only suspected: another row of its batch may have caused that.
The suspected rows are halved in the same way, so each of them takes two calls at most, and a
known-good text for each that is rejected.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.errors import DeviceLost, Fatal
from worker.messages import Staged
from worker.records import (
    SCORE_DECIMALS,
    AbstainReason,
    Classified,
    Encoded,
    MicroBatch,
    Outcome,
    Prediction,
    Rejection,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from worker.classifier import Abstention, Classifier

OOM_PAUSES = (0.1, 0.5, 2.0)
"""Seconds between attempts with a single text for which there was no memory: another program on
the device may release some."""

CANARY = "i feel fine today"
"""A text that any text classifier labels."""


class Launched:
    """A micro-batch that the model is running."""

    __slots__ = ("batch", "error", "handle")

    def __init__(self, batch: MicroBatch, handle: Any, error: Exception | None = None) -> None:
        self.batch = batch
        self.handle = handle
        self.error = error


def stage(classifier: Classifier, batch: MicroBatch) -> Staged:
    """Stages a batch on the host, while another batch runs. Any thread."""
    try:
        return Staged(batch, classifier.stage([item.tokens for item in batch.items]))
    except Exception as error:  # noqa: BLE001 - around a model call; judged by finish()
        return Staged(batch, None, error)


class Inference:
    """Runs micro-batches through a classifier; a failure becomes a value or a `Fatal`.

    Args:
        classifier: The model.
        on_error: Called with the kind of every failed call: `oom`, `device` or `other`.
        guard: Entered around every call of the model that may hang.
    """

    def __init__(
        self,
        *,
        classifier: Classifier,
        on_error: Callable[[str], None],
        guard: AbstractContextManager[None] | None = None,
    ) -> None:
        self._classifier = classifier
        self._labels = classifier.labels
        self._on_error = on_error
        self._guard = guard or nullcontext()
        self._canary = [classifier.tokenize([CANARY])[0][0]]
        self.ran_out = False
        """Whether the model ran out of memory in the last batch that was finished."""

    def launch(self, staged: Staged) -> Launched:
        """Starts a staged batch.

        Raises:
            DeviceLost: The device computes nothing more.
        """
        if staged.error is not None:
            self._end_if_lost(staged.error)
            return Launched(staged.batch, None, staged.error)
        try:
            with self._calling():
                return Launched(staged.batch, self._classifier.launch(staged.buffers))
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - around a model call; judged by finish()
            return Launched(staged.batch, None, error)

    def finish(self, launched: Launched) -> list[Outcome]:
        """Waits for a batch and returns one outcome for each of its documents, in their order.

        Raises:
            DeviceLost: The device computes nothing more.
            Fatal: The model fails for a known-good text as well.
        """
        self.ran_out = False
        items = launched.batch.items
        if launched.error is not None:
            return self._failed(items, launched.error)
        try:
            with self._calling():
                scores = self._classifier.scores(launched.handle)
            return self._read(items, scores)
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - around a model call
            return self._failed(items, error)

    def _failed(self, items: tuple[Encoded, ...], error: Exception) -> list[Outcome]:
        self._count(error)
        return self._split(items, error)

    def _split(self, items: tuple[Encoded, ...], error: Exception) -> list[Outcome]:
        """Outcomes of a batch that failed, by halves."""
        out_of_memory = getattr(error, "kind", "other") == "oom"
        if len(items) == 1:
            if out_of_memory:
                return self._when_memory_is_free(items, error)
            self._require_health(error)
            message = f"the model fails on this text: {type(error).__name__}"
            return [Rejection(items[0].document.record, "model_failed", message)]
        first, second = items[: len(items) // 2], items[len(items) // 2 :]
        outcomes, failed = self._attempt(first)
        if failed or out_of_memory or len(second) == 1:
            return [*outcomes, *self._attempt(second)[0]]
        # The record that breaks the batch must be in the second half: running that half whole would
        # show nothing new. A text is still rejected only after it failed alone.
        return [*outcomes, *self._split(second, error)]

    def _when_memory_is_free(self, items: tuple[Encoded, ...], error: Exception) -> list[Outcome]:
        """Retries one text that ran out of memory: not its own fault, as it fitted at warm-up."""
        for pause in OOM_PAUSES:
            time.sleep(pause)
            try:
                return self._read(items, self._run([item.tokens for item in items]))
            except Fatal:
                raise
            except Exception as again:  # noqa: BLE001 - around a model call
                self._count(again)
                if getattr(again, "kind", "other") != "oom":
                    return self._split(items, again)
        raise Fatal("the device has no memory left for a single text") from error

    def _attempt(self, items: tuple[Encoded, ...]) -> tuple[list[Outcome], bool]:
        """Outcomes of a part of a batch, and whether it failed as a whole."""
        try:
            scores = self._run([item.tokens for item in items])
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - around a model call
            self._count(error)
            return self._split(items, error), True
        return self._read(items, scores), False

    def _read(self, items: tuple[Encoded, ...], scores: np.ndarray) -> list[Outcome]:
        labels, abstention = self._labels, self._classifier.abstention
        if scores.shape != (len(items), len(labels) + (abstention is not None)):
            raise Fatal(
                f"the model returned scores of shape {scores.shape} for {len(items)} texts "
                f"and {len(labels)} labels{' and an energy' if abstention else ''}"
            )
        finite = np.isfinite(scores).all(axis=1).tolist()
        suspects = tuple(item for item, good in zip(items, finite, strict=True) if not good)
        judged = iter(self._judge(suspects, alone=len(items) == 1))
        best = scores[:, : len(labels)].argmax(axis=1)
        outcomes: list[Outcome] = []
        # In 64 bits: a product of 32 bits would be rounded itself, and its last decimals printed.
        rounded = np.round(scores[:, : len(labels)].astype(np.float64), SCORE_DECIMALS)
        unsure: list[AbstainReason | None] = [None] * len(items)
        if abstention is not None:
            unsure = _unsure(rounded, scores[:, -1], abstention)
        for item, row, label, why, good in zip(
            items, rounded.tolist(), best.tolist(), unsure, finite, strict=True
        ):
            if good:
                prediction = Prediction(labels[label], row[label], row, why)
                outcomes.append(Classified(item.document, prediction))
            else:
                outcomes.append(next(judged))
        return outcomes

    def _judge(self, suspects: tuple[Encoded, ...], *, alone: bool) -> list[Outcome]:
        """Outcomes of rows whose scores were not finite, which were run `alone` or among others."""
        if not suspects:
            return []
        if alone:
            self._require_health(ValueError("scores that are not finite"))
            message = "the model's scores for this text are not finite"
            return [Rejection(suspects[0].document.record, "model_failed", message)]
        half = len(suspects) // 2
        parts = [part for part in (suspects[:half], suspects[half:]) if part]
        return [outcome for part in parts for outcome in self._attempt(part)[0]]

    def _require_health(self, error: Exception) -> None:
        """Checks with a known-good text that the model still works.

        Raises:
            Fatal: The model fails for that text, too.
        """
        try:
            healthy = bool(np.isfinite(self._run(self._canary)).all())
        except DeviceLost:
            raise
        except Exception as canary_error:  # noqa: BLE001 - around a model call
            self._count(canary_error)
            raise Fatal(
                "the model fails for every text, a known-good one included: "
                f"{type(canary_error).__name__}: {_one_line(canary_error)}"
            ) from error
        if not healthy:
            raise Fatal("the model's scores are not finite, not even for a known-good text")

    def _run(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        classifier = self._classifier
        with self._calling():
            return classifier.scores(classifier.launch(classifier.stage(rows)))

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Around every call of the model."""
        with self._guard:
            try:
                yield
            except Exception as error:
                self._end_if_lost(error)
                raise

    def _end_if_lost(self, error: Exception) -> None:
        """Raises `DeviceLost` where each half of the batch would fail with the same error."""
        if getattr(error, "kind", None) != DeviceLost.kind:
            return
        self._on_error(DeviceLost.kind)
        if isinstance(error, DeviceLost):
            raise error
        raise DeviceLost(_one_line(error)) from error

    def _count(self, error: Exception) -> None:
        kind = getattr(error, "kind", "other")
        self.ran_out = self.ran_out or kind == "oom"
        self._on_error("oom" if kind == "oom" else "other")


def _unsure(
    scores: np.ndarray, energies: np.ndarray, abstention: Abstention
) -> list[AbstainReason | None]:
    """Why the worker abstains, for each text; None: it does not.

    Args:
        scores: As they are published, float64, shape (texts, labels).
        energies: Float32, shape (texts,).
        abstention: The thresholds.
    """
    why = np.full(len(scores), None, dtype=object)
    why[scores.max(axis=1) < abstention.score] = "low_score"
    # In 64 bits, as the threshold is: one that float32 cannot hold is not rounded.
    why[energies.astype(np.float64) > abstention.energy] = "out_of_domain"
    found: list[AbstainReason | None] = why.tolist()
    return found


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else ""
