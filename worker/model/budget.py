"""The token budget of a batch, measured on the device when the model is loaded.

The smallest batch whose rate is near the best: a larger one only makes records wait. And none that
takes longer than `batch.max_seconds`: while a batch runs nothing that comes can be labelled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from worker.classifier import BatchLimits
from worker.model.failures import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.classifier import TorchClassifier

log = structlog.get_logger(__name__)

SMALLEST = 64
"""Tokens of the smallest batch that is tried: three tweets. Each other has twice as many."""
ENOUGH = 256
"""Tokens below which a batch is chosen only where a larger one would be slower, or too long: what a
batch costs beside the model is not measured here."""
LARGEST = 262_144
NEAR = 0.97
"""The part of the best rate that is enough."""
TEXT = 22
"""Tokens of a text of the batches that are tried: a tweet's."""
TOKENS_PER_RECORD = 8
"""A batch may hold so many records for its tokens: texts that are shorter hardly occur."""
LEVEL = 3
"""Batches in a row of which no later one is faster: the rate rises no more."""
SWEEPS = 2
"""How often each batch is tried; its best time counts. Twice in all, not in a row: a busy moment
falls on one of them."""


class Trial(NamedTuple):
    """A batch that was tried."""

    tokens: int
    """Padding included."""
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def calibrated(classifier: TorchClassifier, *, max_seconds: float) -> list[Trial]:
    """Tries batches of rising size; sets the classifier's limits.

    Args:
        classifier: As it will run.
        max_seconds: Longest time of a batch. The smallest batch is taken even if it takes longer.

    Returns:
        What was tried, the smallest first.
    """
    begin = time.perf_counter()
    best: dict[int, Trial] = {}
    for _ in range(SWEEPS):
        for trial in _sweep(classifier, max_seconds):
            former = best.get(trial.tokens, trial)
            best[trial.tokens] = min(former, trial, key=lambda one: one.seconds)
    trials = [best[tokens] for tokens in sorted(best)]
    if not trials:
        return []  # the warm-up will say why
    chosen = choice(trials, max_seconds=max_seconds)
    classifier.limits = BatchLimits(
        max_records=max(1, chosen.tokens // TOKENS_PER_RECORD), max_tokens=chosen.tokens
    )
    log.info(
        "batch_calibrated",
        max_tokens=classifier.limits.max_tokens,
        max_records=classifier.limits.max_records,
        batch_seconds=round(chosen.seconds, 4),
        tokens_per_second=round(chosen.rate),
        best_tokens_per_second=round(max(trial.rate for trial in trials)),
        seconds=round(time.perf_counter() - begin, 3),
    )
    return trials


def choice(trials: Sequence[Trial], *, max_seconds: float) -> Trial:
    """The smallest batch that is near the best rate of those that are short enough.

    Args:
        trials: The smallest first; at least one.
        max_seconds: Longest time of a batch; the first trial may take longer.
    """
    short = [trial for trial in trials if trial.seconds <= max_seconds] or [trials[0]]
    best = max(trial.rate for trial in short)
    near = [trial for trial in short if trial.rate >= NEAR * best]
    return next((trial for trial in near if trial.tokens >= ENOUGH), near[-1])


def _sweep(classifier: TorchClassifier, max_seconds: float) -> list[Trial]:
    """Batches of rising size, to the first that is too long or too large, or no faster any more."""
    row = classifier.filler(min(TEXT, classifier.checkpoint.max_length))
    cost = classifier.layout.tokens([len(row)])
    trials: list[Trial] = []
    tokens = SMALLEST
    while tokens <= LARGEST:
        rows = max(1, tokens // cost)
        try:
            if not trials:
                classifier.run([row])  # the first call of all takes longer
            begin = time.perf_counter()
            classifier.run([row] * rows)
            seconds = time.perf_counter() - begin
        except InferenceError as error:
            log.debug("batch_too_large", tokens=tokens, error=str(error))
            break
        # Per token, as if the batch were full: it holds a whole number of texts.
        trials.append(Trial(tokens, seconds * tokens / (rows * cost)))
        if seconds > max_seconds or _level(trials):
            break
        tokens *= 2
    return trials


def _level(trials: Sequence[Trial]) -> bool:
    """Whether the last two batches had no better rate than the one before them."""
    if len(trials) < LEVEL:
        return False
    before, *last = trials[-LEVEL:]
    return max(trial.rate for trial in last) * NEAR <= before.rate
