"""The contest's arithmetic: rates, spreads, ratios, marks of kills, and the tables. Pure."""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.results import table
from tests.support.audit import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of some rounds."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(median=statistics.median(values), least=min(values), most=max(values))


def ratios(rates: Mapping[str, Sequence[float]], base: str) -> dict[str, Spread]:
    """Each one's rate over the base's rate of the same round."""
    return {
        name: spread([one / other for one, other in zip(values, rates[base], strict=True)])
        for name, values in rates.items()
    }


def marks(messages: int, kills: int) -> list[int]:
    """Answered inputs from which on each kill is due: evenly spread, none at the ends."""
    return [messages * (number + 1) // (kills + 1) for number in range(kills)]


def allowed(steady: int, next_mark: int | None, messages: int, kills: int) -> int:
    """How much input there may be: a fast contestant must not pass two marks before the first kill.

    Args:
        steady: What the stream's rate has made of it by now.
        next_mark: Of the next kill; None: all have struck.
        messages: Of the whole stream.
        kills: Of the whole schedule.
    """
    if next_mark is None:
        return steady
    return min(steady, next_mark + messages // (kills + 1) // 2)


def delays(kills: int, seed: int) -> list[float]:
    """Seconds between a mark and its kill: else each would come right after a write."""
    chance = random.Random(seed)
    return [chance.uniform(0, 0.5) for _ in range(kills)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a `read_committed` reader sees of a run with kills."""

    inputs: int
    lost: int
    """Inputs without an output."""
    doubled: int
    """Outputs beyond the first of their input."""
    disordered: int
    """First outputs behind those of a later input of the same partition or key."""


def damage(verdict: Verdict) -> Damage:
    # An output may be out of order in its partition and for its key: that is one.
    places = {line.partition(": ")[0] for line in verdict.disordered}
    return Damage(
        inputs=verdict.inputs,
        lost=len(verdict.missing),
        doubled=verdict.doubled,
        disordered=len(places),
    )


def speed_table(
    titles: Mapping[str, str],
    rates: Mapping[str, Sequence[float]],
    agreement: Mapping[str, float],
    *,
    base: str,
) -> str:
    """Rows by name: rate, spread, the base's rate in parts of it, labels in common with float32."""
    relative = {
        name: statistics.median([mine / its for mine, its in zip(rates[base], values, strict=True)])
        for name, values in rates.items()
        if base in rates
    }
    rows = []
    for name, values in rates.items():
        found = spread(values)
        ratio = f"{relative[name]:.2f}" if relative else ""
        rows.append(
            [
                titles[name],
                f"{found.median:,.0f} ({found.least:,.0f}-{found.most:,.0f})",
                ratio,
                f"{agreement[name]:.3f}",
            ]
        )
    return table(
        ["way", "messages/s (median)", "the worker's rate to it", "labels as float32"], rows
    )


def kill_table(titles: Mapping[str, str], found: Mapping[str, Damage]) -> str:
    rows = [
        [
            titles[name],
            f"{each.inputs:,}",
            f"{each.lost:,}",
            f"{each.doubled:,} ({each.doubled / each.inputs:.1%})",
            f"{each.disordered:,}",
        ]
        for name, each in found.items()
    ]
    return table(["way", "inputs", "lost", "doubled", "out of order"], rows)
