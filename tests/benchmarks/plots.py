"""Plots of what the benchmarks found.

    python -m tests.benchmarks.plots [--folder DIR]

Draws the kept results (`tests/benchmarks/results`) into `build/bench`.
"""

import argparse
import statistics
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

from tests.benchmarks.hostpath import report as hostpath
from tests.benchmarks.load import SHARES
from tests.benchmarks.results import KEPT, PASSING, kept


def contest(found, path):
    """Messages/s of each way: the median, and the rounds' range."""
    names = sorted(found["rates"], key=lambda name: statistics.median(found["rates"][name]))
    medians = [statistics.median(found["rates"][name]) for name in names]
    spread = [
        [middle - min(found["rates"][name]) for name, middle in zip(names, medians, strict=True)],
        [max(found["rates"][name]) - middle for name, middle in zip(names, medians, strict=True)],
    ]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(names) + 1.2), layout="constrained")
    colours = ["#3b6fb6" if name.startswith("worker") else "#b8bfc9" for name in names]
    axes.barh(names, medians, xerr=spread, color=colours, error_kw={"elinewidth": 1, "capsize": 3})
    axes.set_xlabel("messages/s, median and range of the rounds")
    axes.set_title(f"A backlog of tweets, MiniLM on two cores, {found['dtype']}", loc="left")
    save(figure, path)


def stages(found, path):
    """User microseconds a record by stage: before and after where both ran."""
    bars = [
        (f"{spaced(row)}\n{label}", hostpath.median(runs))
        for row in found["rows"]
        for checkout, label in (("other", "before"), ("this", "now"))
        if (runs := hostpath.runs_of(found, checkout, row))
    ]
    names = sorted({stage for _, one in bars for stage in one.python})
    figure, axes = plt.subplots(figsize=(1.1 * len(bars) + 2, 5), layout="constrained")
    below = [0.0] * len(bars)
    for name in names:
        heights = [one.python.get(name, 0.0) for _, one in bars]
        axes.bar([label for label, _ in bars], heights, bottom=below, label=name, width=0.7)
        below = [base + height for base, height in zip(below, heights, strict=True)]
    axes.set_ylabel("interpreter, user µs a record")
    axes.tick_params(axis="x", labelsize=7)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set_title("The host path by stage", loc="left")
    save(figure, path)


def spaced(row):
    """A row's name in several lines."""
    return row.replace("_", " ").replace("+", "\n+ ")


def latency(found, path):
    """Latency against load, by guarantee."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for guarantee, one in found["guarantees"].items():
        for cut, style in (("p50", "-"), ("p99", "--")):
            axes.plot(
                [100 * share for share in SHARES], [load[cut] for load in one["loads"]],
                style, marker="o", label=f"{guarantee.replace('_', ' ')}, {cut}",
            )  # fmt: skip
    axes.set_xlabel("load, % of the most that the worker does")
    axes.set_ylabel("ms")
    axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(f"From a record's timestamp to its output, {found['model']} model", loc="left")
    save(figure, path)


def save(figure, path):
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(path)


DRAWN = {
    "contest-bfloat16": contest,
    "contest-float32": contest,
    "hostpath": stages,
    "load-simulated": latency,
    "load-real": latency,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=PASSING)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWN.items():
        if (KEPT / f"{name}.json").exists():
            draw(kept(name), given.folder / f"{name}.png")


if __name__ == "__main__":
    main()
