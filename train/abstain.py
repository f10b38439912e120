"""When a model had better say that it does not know: thresholds of its score and of its energy.

The score says how sure the model is between its labels, the energy whether it knows such texts at
all: a text that is unlike those of the training has small logits, and so a high energy (Liu et al.,
Energy-based Out-of-distribution Detection, NeurIPS 2020). `emotion-worker` computes the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp  # type: ignore[import-untyped]
from scipy.stats import binomtest  # type: ignore[import-untyped]

from train.calibrate import Floats, probabilities
from train.manifest import Abstain
from train.printer import counted

Bools = NDArray[np.bool_]

MOST, LEAST, STEP = 0.99, 0.05, 0.01
"""Shares of the texts that may be answered. Beyond the most the thresholds would stand on a text or
two, and the energy would keep nothing out."""

FOLDS = 5
"""Parts of the texts, each of which is answered with thresholds that the others have given."""

DECIMALS = 6
"""Of a published score, and so of a threshold."""

PRECISION = 0.98
"""Share of the answers that are to be right, where nobody says otherwise."""

FEWEST = 50
"""Answers of which a precision is taken: of fewer it is chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What thresholds are compared with; each of shape (texts,)."""

    scores: Floats
    """The best score of each text, as it is published."""
    energies: Floats
    """-log(sum(exp(logits))) of the logits before the temperature, in nats."""

    @classmethod
    def of(cls, logits: Floats, *, temperature: float) -> Self:
        """Computes them.

        Args:
            logits: Before the temperature: float64, shape (texts, labels).
            temperature: That of the published scores.
        """
        return cls(
            scores=probabilities(logits, temperature).max(axis=1).round(DECIMALS),
            energies=-logsumexp(logits, axis=1),
        )

    def only(self, rows: NDArray[np.intp]) -> Self:
        """Those of some texts, by their rows."""
        return type(self)(scores=self.scores[rows], energies=self.energies[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The model abstains where the score is below, or the energy above."""

    score: float
    """0 to 1."""
    energy: float
    """In nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstained:
    """Which texts the model abstains on, and why; each of shape (texts,)."""

    low_score: Bools
    out_of_domain: Bools
    """Where both hold, it is this one alone."""

    @property
    def answered(self) -> Bools:
        """The other texts."""
        return ~(self.low_score | self.out_of_domain)

    def reason(self, row: int) -> str:
        """Why, of a text, as the worker publishes it; empty where it is answered."""
        if self.out_of_domain[row]:
            return "out_of_domain"
        return "low_score" if self.low_score[row] else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How many texts are answered, and how well."""

    coverage: float
    """Share of the texts that are answered, 0 to 1."""
    precision: float
    """Share of the answers that are right, 0 to 1."""
    low: float
    """Lower end of the 95 % interval of the precision (Wilson)."""
    high: float
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Thresholds, and how good the answers are with such ones."""

    coverage: float
    """The one that they were chosen for."""
    thresholds: Thresholds
    quality: Quality
    """On texts that chose neither coverage nor thresholds."""

    def line(self, split: str) -> str:
        """For people."""
        quality, thresholds = self.quality, self.thresholds
        return (
            f"abstains below the score {thresholds.score:.4f} and above the energy"
            f" {thresholds.energy:.4f}: answers {quality.coverage:.1%} of {split}, of which"
            f" {quality.precision:.1%} are right ({quality.low:.1%} to {quality.high:.1%})"
        )


def thresholds_at(signals: Signals, *, coverage: float) -> Thresholds:
    """The thresholds with which a share of the texts is answered.

    Half of the others have the highest energies, the other half the lowest scores of what is left.

    Args:
        signals: Of the texts.
        coverage: The share, above 0 and below 1.
    """
    energy = float(np.quantile(signals.energies, (1 + coverage) / 2))
    near = signals.energies <= energy
    share = max(0.0, 1 - coverage / float(near.mean()))
    # A score that occurs: the texts that have it are answered.
    score = float(np.quantile(signals.scores[near], share, method="higher"))
    return Thresholds(score=score, energy=energy)


def apply(signals: Signals, thresholds: Thresholds) -> Abstained:
    """Which texts the model abstains on."""
    far = signals.energies > thresholds.energy
    return Abstained(low_score=(signals.scores < thresholds.score) & ~far, out_of_domain=far)


def right(logits: Floats, targets: Sequence[int]) -> Bools:
    """Which answers are right, shape (texts,).

    Args:
        logits: Shape (texts, labels).
        targets: The right column of each text.
    """
    found: Bools = logits.argmax(axis=1) == np.asarray(targets)
    return found


def quality_at(signals: Signals, correct: Bools, *, coverage: float) -> Quality:
    """How good the answers are at a coverage, each with thresholds of other texts.

    Args:
        signals: Of the texts; at least `FOLDS`.
        correct: Which answers are right.
        coverage: The share of the texts to answer.
    """
    answered = np.zeros(len(correct), dtype=bool)
    for here, others in _folds(len(correct)):
        thresholds = thresholds_at(signals.only(others), coverage=coverage)
        answered[here] = apply(signals.only(here), thresholds).answered
    return _quality(answered, correct)


def choose(signals: Signals, correct: Bools, *, precision: float) -> Chosen | str:
    """The thresholds of the largest coverage with a precision, or why there are none.

    The coverage, too, is chosen by the texts, so the quality is that of each fifth of them with the
    coverage and the thresholds that the other four choose.

    Args:
        signals: Of the texts.
        correct: Which answers are right.
        precision: The share of the answers that is to be right.
    """
    if len(correct) < 2 * FEWEST:
        return f"{counted(len(correct), 'row')}; thresholds need {2 * FEWEST}: give a larger split"
    coverage = _largest(signals, correct, precision=precision)
    answered = np.zeros(len(correct), dtype=bool)
    for here, others in _folds(len(correct)):
        theirs = _largest(signals.only(others), correct[others], precision=precision)
        if theirs is not None:
            thresholds = thresholds_at(signals.only(others), coverage=theirs)
            answered[here] = apply(signals.only(here), thresholds).answered
    quality = _quality(answered, correct)
    if coverage is None or answered.sum() < FEWEST or quality.high < precision:
        at_most = max(
            (quality_at(signals, correct, coverage=each) for each in (0.9, 0.7, 0.5, 0.3)),
            key=lambda one: one.precision,
        )
        if at_most.precision >= precision:
            return (
                f"with {precision:.1%} of the answers right, fewer than {FEWEST} answers of"
                f" {counted(len(correct), 'row')} are left: give a larger split, or lower"
                " --precision"
            )
        return (
            f"no thresholds make {precision:.1%} of the answers right (of {at_most.coverage:.0%} of"
            f" the texts {at_most.precision:.1%} are): lower --precision"
        )
    thresholds = thresholds_at(signals, coverage=coverage)
    return Chosen(coverage=coverage, thresholds=thresholds, quality=quality)


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
        coverage=chosen.quality.coverage,
        precision=chosen.quality.precision,
        precision_interval=(chosen.quality.low, chosen.quality.high),
        split=split,
        rows=rows,
    )


def _largest(signals: Signals, correct: Bools, *, precision: float) -> float | None:
    """The largest coverage at which enough answers are so precise; None: there is none."""
    for step in range(round((MOST - LEAST) / STEP) + 1):
        coverage = round(MOST - step * STEP, 4)
        thresholds = thresholds_at(signals, coverage=coverage)
        answered = apply(signals, thresholds).answered
        if answered.sum() < FEWEST:
            return None
        if correct[answered].mean() >= precision:
            return coverage
    return None


def _folds(rows: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows of each part, and of all the others; always the same."""
    order = np.random.default_rng(0).permutation(rows)
    return [
        (order[fold::FOLDS], np.delete(order, slice(fold, None, FOLDS))) for fold in range(FOLDS)
    ]


def _quality(answered: Bools, correct: Bools) -> Quality:
    count, good = int(answered.sum()), int(correct[answered].sum())
    if not count:
        return Quality(coverage=0.0, precision=0.0, low=0.0, high=1.0)
    interval = binomtest(good, count).proportion_ci(method="wilson")
    return Quality(
        coverage=count / len(correct),
        precision=good / count,
        low=float(interval.low),
        high=float(interval.high),
    )
