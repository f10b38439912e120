"""When a model had better say that it does not know: thresholds of its score and of its energy.

The score says how sure the model is between its labels, the energy whether it knows such texts at
all: a text that is unlike those of the training has small logits, and so a high energy (Liu et al.,
Energy-based Out-of-distribution Detection, NeurIPS 2020). `emotion-worker` computes the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp  # type: ignore[import-untyped]
from scipy.stats import binomtest  # type: ignore[import-untyped]

from train.calibrate import Floats, probabilities
from train.manifest import Abstain
from train.printer import counted

MOST, LEAST, STEP = 0.99, 0.05, 0.005
"""Shares of the texts that may be answered. Beyond the most the thresholds would stand on a text or
two, and the energy would keep nothing out."""

FOLDS = 5
"""Parts of the texts, each of which is answered with thresholds that the others have given."""

DECIMALS = 6
"""Of a published score, and so of a threshold."""


PRECISION = 0.98
"""Share of the answers that are to be right, where nobody says otherwise."""

FEWEST = 50
"""Texts of which at least the thresholds are chosen: of fewer, one alone moves a threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The model abstains where the score is below, or the energy above."""

    score: float
    """0 to 1."""
    energy: float
    """Of logits before the temperature, in nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstained:
    """Which texts the model abstains on, and why; each of shape (texts,)."""

    low_score: NDArray[np.bool_]
    out_of_domain: NDArray[np.bool_]
    """Where both hold, it is this one alone."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        """The other texts."""
        return ~(self.low_score | self.out_of_domain)

    def because(self, row: int) -> str:
        """Why, of a text, as the worker publishes it; empty where it is answered."""
        if self.out_of_domain[row]:
            return "out_of_domain"
        return "low_score" if self.low_score[row] else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How good the answers are that are left."""

    coverage: float
    """Share of the texts that are answered, 0 to 1."""
    precision: float
    """Share of the answers that are right, 0 to 1."""
    low: float
    """Lower end of the 95 % interval of the precision (Wilson)."""
    high: float
    """Upper end."""


def energies(logits: Floats) -> Floats:
    """The energy of each text, -log(sum(exp(logits))); float64, shape (texts,).

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
    """
    found: Floats = -logsumexp(logits, axis=1)
    return found


def at_coverage(logits: Floats, *, temperature: float, coverage: float) -> Thresholds:
    """The thresholds with which a share of the texts is answered.

    Half of the others have the highest energies, the other half the lowest scores of what is left.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        temperature: That of the published scores.
        coverage: The share of the texts, above 0 and below 1.
    """
    found = energies(logits)
    scores = probabilities(logits, temperature).max(axis=1).round(DECIMALS)
    energy = float(np.quantile(found, (1 + coverage) / 2))
    near = found <= energy
    share = max(0.0, 1 - coverage / float(near.mean()))
    # A score that occurs: the texts that have it are answered.
    score = float(np.quantile(scores[near], share, method="higher"))
    return Thresholds(score=score, energy=energy)


def apply(logits: Floats, thresholds: Thresholds, *, temperature: float) -> Abstained:
    """Which texts the model abstains on.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        thresholds: Those of the checkpoint.
        temperature: That of the published scores.
    """
    far = energies(logits) > thresholds.energy
    scores = probabilities(logits, temperature).max(axis=1).round(DECIMALS)
    return Abstained(low_score=(scores < thresholds.score) & ~far, out_of_domain=far)


def kept(
    logits: Floats, targets: Sequence[int], *, temperature: float, coverage: float, seed: int = 0
) -> Kept:
    """How good the answers are at a coverage, on texts that did not choose the thresholds.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        targets: The right column of each text; at least `FOLDS`.
        temperature: That of the published scores.
        coverage: The share of the texts to answer.
        seed: Of the folds.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    right = logits.argmax(axis=1) == np.asarray(targets)
    answered = np.zeros(len(targets), dtype=bool)
    for fold in range(FOLDS):
        here = order[fold::FOLDS]
        others = np.delete(order, slice(fold, None, FOLDS))
        thresholds = at_coverage(logits[others], temperature=temperature, coverage=coverage)
        answered[here] = apply(logits[here], thresholds, temperature=temperature).answered
    count, good = int(answered.sum()), int(right[answered].sum())
    if not count:
        return Kept(coverage=0.0, precision=0.0, low=0.0, high=1.0)
    interval = binomtest(good, count).proportion_ci(method="wilson")
    return Kept(
        coverage=count / len(targets),
        precision=good / count,
        low=float(interval.low),
        high=float(interval.high),
    )


def most_answered(
    logits: Floats, targets: Sequence[int], *, temperature: float, precision: float
) -> tuple[float, Kept]:
    """The largest coverage at which the answers are as precise as is asked for.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        targets: The right column of each text; at least `FOLDS`.
        temperature: That of the published scores.
        precision: The share of the answers that must be right.

    Returns:
        The coverage and what is kept there; where no coverage is precise enough, the one that is
        the most precise.
    """
    best: tuple[float, Kept] | None = None
    for step in range(round((MOST - LEAST) / STEP) + 1):
        coverage = round(MOST - step * STEP, 4)
        found = kept(logits, targets, temperature=temperature, coverage=coverage)
        if found.precision >= precision:
            return coverage, found
        if best is None or found.precision > best[1].precision:
            best = coverage, found
    assert best is not None  # noqa: S101 - there are steps
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Thresholds, and how good the answers are with them."""

    asked: float
    """The coverage that they were chosen for."""
    thresholds: Thresholds
    kept: Kept
    """On texts that did not choose them."""

    def line(self, split: str) -> str:
        """For people."""
        kept, thresholds = self.kept, self.thresholds
        return (
            f"abstains below the score {thresholds.score:.4f} and above the energy"
            f" {thresholds.energy:.4f}: answers {kept.coverage:.1%} of {split}, of which"
            f" {kept.precision:.1%} are right ({kept.low:.1%} to {kept.high:.1%})"
        )


def choose(
    logits: Floats, targets: Sequence[int], *, temperature: float, precision: float
) -> Chosen | str:
    """The thresholds that answer the most texts with a precision, or why there are none.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        targets: The right column of each text.
        temperature: That of the published scores.
        precision: The share of the answers that must be right.
    """
    if len(targets) < FEWEST:
        return f"{counted(len(targets), 'row')}; thresholds need {FEWEST}"
    coverage, kept = most_answered(logits, targets, temperature=temperature, precision=precision)
    if kept.precision < precision:
        return (
            f"no thresholds make {precision:.1%} of the answers right; the best are"
            f" {kept.precision:.1%} of {kept.coverage:.1%} of the texts"
        )
    return Chosen(
        asked=coverage,
        thresholds=at_coverage(logits, temperature=temperature, coverage=coverage),
        kept=kept,
    )


def entry_of(chosen: Chosen, *, split: str, rows: int) -> Abstain:
    """The entry `abstain` of the manifest.

    Args:
        chosen: The thresholds.
        split: The name of the split on which they were chosen.
        rows: Those of the split.
    """
    return Abstain(
        score=chosen.thresholds.score,
        energy=chosen.thresholds.energy,
        coverage=chosen.kept.coverage,
        precision=chosen.kept.precision,
        precision_interval=(chosen.kept.low, chosen.kept.high),
        split=split,
        rows=rows,
    )
