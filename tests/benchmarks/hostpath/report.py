"""Tables of the host path, from what was written as JSON. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.results import table


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one run, between a tenth and all of its messages."""

    rate: float
    """Messages/s."""
    python: Mapping[str, float]
    """User microseconds of processor time a record, by stage: of threads that run Python."""
    native: float
    """The same of all other threads: they never hold the interpreter's lock."""
    system: float
    """Microseconds a record within the kernel, of all threads."""
    megabytes: float
    """Resident, at the end."""

    @property
    def interpreter(self) -> float:
        """User microseconds a record of all threads that run Python.

        The lock is held for less: compression and checksums are among them.
        """
        return sum(self.python.values())


def median(runs: Sequence[Figures]) -> Figures:
    """Of each figure."""
    stages = sorted({stage for run in runs for stage in run.python})
    return Figures(
        rate=statistics.median(run.rate for run in runs),
        python={
            stage: statistics.median(run.python.get(stage, 0.0) for run in runs) for stage in stages
        },
        native=statistics.median(run.native for run in runs),
        system=statistics.median(run.system for run in runs),
        megabytes=statistics.median(run.megabytes for run in runs),
    )


def runs_of(found: Mapping[str, Any], checkout: str, row: str) -> list[Figures]:
    """The runs of `this` checkout, or the `other`; none where it did not run."""
    return [Figures(**run) for run in found["runs"].get(f"{checkout} {row}", [])]


def rates(found: Mapping[str, Any]) -> str:
    """Messages/s, ratios and microseconds, by row."""
    compared = any(name.startswith("other ") for name in found["runs"])
    head = ["row", *(["before/s"] if compared else []), "messages/s"]
    head += ["ratio, median of rounds (range)"] if compared else []
    head += ["of the plain loop", "interpreter, µs a record", "MB"]
    lines = []
    for row in found["rows"]:
        this, other = runs_of(found, "this", row), runs_of(found, "other", row)
        cells = [row, *([f"{median(other).rate:,.0f}"] if compared else [])]
        cells.append(f"{median(this).rate:,.0f}")
        interpreter = f"{median(this).interpreter:.1f}"
        if compared:
            ratios = [one.rate / base.rate for one, base in zip(this, other, strict=True)]
            middle = statistics.median(ratios)
            cells.append(f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            interpreter = f"{median(other).interpreter:.1f} → {interpreter}"
        shares = [one.rate / loop for one, loop in zip(this, found["loop"], strict=True)]
        cells += [f"{statistics.median(shares):.2f}", interpreter]
        lines.append([*cells, f"{median(this).megabytes:.0f}"])
    plain = [f"{statistics.median(found['loop']):,.0f}", *([""] if compared else [])]
    lines.append(["plain loop", *([""] if compared else []), *plain, "1", "", ""])
    return table(head, lines)


def stages(found: Mapping[str, Any]) -> str:
    """User microseconds a record by stage; before and after where both ran."""
    rows = found["rows"]
    medians = {
        (checkout, row): median(runs)
        for row in rows
        for checkout in ("other", "this")
        if (runs := runs_of(found, checkout, row))
    }
    names = sorted({stage for one in medians.values() for stage in one.python})
    lines = []
    for name in [*names, "threads without Python", "kernel"]:
        cells = [name]
        for row in rows:
            both = [
                f"{_part(medians[checkout, row], name):.1f}"
                for checkout in ("other", "this")
                if (checkout, row) in medians
            ]
            cells.append(" → ".join(both))
        lines.append(cells)
    return table(["stage", *rows], lines)


def _part(figures: Figures, name: str) -> float:
    if name == "threads without Python":
        return figures.native
    return figures.system if name == "kernel" else figures.python.get(name, 0.0)
