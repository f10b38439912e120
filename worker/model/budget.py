"""The token budget of a batch, measured on the device when the model is loaded.

The smallest batch whose rate is near the best: a larger one only makes records wait. And none that
takes longer than `batch.max_seconds`: while a batch runs nothing that comes can be labelled. Tried
are texts of a tweet's length.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import structlog
import torch

from worker.classifier import BatchLimits
from worker.model.failures import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.classifier import TorchClassifier

log = structlog.get_logger(__name__)

SMALLEST = 64
"""Tokens of the smallest batch that is tried: three tweets. Each other has twice as many."""
ENOUGH = 512
"""Tokens below which a batch is chosen only where a larger one would be slower, or too long: what a
batch costs beside the model is not measured here, and a busy machine makes all sizes look alike."""
LARGEST = 262_144
NEAR = 0.97
"""The part of the best rate that is enough."""
TEXT = 22
"""Tokens of a text of the batches that are tried: a tweet's."""
TOKENS_PER_RECORD = 8
"""A batch may hold so many records for its tokens: texts that are shorter hardly occur."""
SWEEPS = 2
"""How often each batch is tried; its best time counts. Not in a row: a busy moment falls on one of
them. In the first sweep each batch runs twice, since the first time of a shape takes longer."""


class Trial(NamedTuple):
    """A batch that was tried."""

    tokens: int
    """Padding included."""
    seconds: float
    """Of a batch that is full."""
    undisturbed: float
    """On a CPU, what it takes at least where no other program runs: the processor time, over all
    threads. On another device the same as `seconds`."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def measured(classifier: TorchClassifier, *, max_seconds: float) -> list[Trial]:
    """Tries batches of rising size, to where one is too long or too large, or none is faster.

    Args:
        classifier: As it will run.
        max_seconds: Longest time of a batch.

    Returns:
        What was tried, the smallest first; empty where nothing runs: the warm-up will say why.
    """
    best: dict[int, Trial] = {}
    for sweep in range(SWEEPS):
        _sweep(classifier, best, max_seconds=max_seconds, runs=1 if sweep else 2)
    return [best[tokens] for tokens in sorted(best)]


def limits(trials: Sequence[Trial], *, max_seconds: float) -> BatchLimits | None:
    """The limits that follow from what was tried; None where nothing was. Logs them."""
    if not trials:
        return None
    chosen = choice(trials, max_seconds=max_seconds)
    found = BatchLimits(
        max_records=max(1, chosen.tokens // TOKENS_PER_RECORD), max_tokens=chosen.tokens
    )
    log.info(
        "batch_calibrated",
        max_tokens=found.max_tokens,
        max_records=found.max_records,
        batch_seconds=round(chosen.seconds, 4),
        tokens_per_second=round(chosen.rate),
        best_tokens_per_second=round(max(trial.rate for trial in trials)),
    )
    return found


def choice(trials: Sequence[Trial], *, max_seconds: float) -> Trial:
    """The smallest batch that is near the best rate of those that are short enough.

    Args:
        trials: The smallest first; at least one.
        max_seconds: Longest time of a batch; the first trial may take longer.
    """
    short = [trial for trial in trials if trial.undisturbed <= max_seconds] or [trials[0]]
    best = max(trial.rate for trial in short)
    near = [trial for trial in short if trial.rate >= NEAR * best]
    return next((trial for trial in near if trial.tokens >= ENOUGH), near[-1])


def _sweep(
    classifier: TorchClassifier, best: dict[int, Trial], *, max_seconds: float, runs: int
) -> None:
    """Batches of rising size; of each its best time so far is kept."""
    row = classifier.filler(min(TEXT, classifier.checkpoint.max_length))
    cost = classifier.layout.tokens([len(row)])
    tokens = SMALLEST
    while tokens <= LARGEST:
        rows = max(1, tokens // cost)
        try:
            took = [timed(classifier, [row] * rows) for _ in range(runs)]
        except InferenceError as error:
            log.debug("batch_too_large", tokens=tokens, error=str(error))
            return
        # As if the batch were full: it holds a whole number of texts.
        full = tokens / (rows * cost)
        found = [Trial(tokens, each * full, least * full) for each, least in took]
        former = [best[tokens]] if tokens in best else []
        best[tokens] = min(former + found, key=lambda one: one.seconds)
        if best[tokens].undisturbed > max_seconds or _level(best, tokens):
            return
        tokens *= 2


def timed(classifier: TorchClassifier, rows: list[list[int]]) -> tuple[float, float]:
    """Seconds of one batch, and those that it takes at least where no other program runs."""
    begin, spent = time.perf_counter(), time.process_time()
    classifier.run(rows)
    took, spent = time.perf_counter() - begin, time.process_time() - spent
    if classifier.device.type != "cpu":
        return took, took
    return took, min(took, spent / torch.get_num_threads())


def _level(best: dict[int, Trial], tokens: int) -> bool:
    """Whether neither a batch of so many tokens nor of half has a better rate than of a quarter."""
    if tokens < ENOUGH or tokens // 4 not in best:
        return False
    quarter, *last = (best[size].rate for size in (tokens // 4, tokens // 2, tokens))
    return max(last) * NEAR <= quarter
