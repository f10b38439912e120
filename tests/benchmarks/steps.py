"""What each change of the host path brought: the commits that made it, in turns.

    python -m tests.benchmarks.steps [--rounds 5] [--messages 40000] [--keep]

A model that takes no time and a made-up tokenizer, on a backlog, both guarantees. The ratio is to
the first commit, the median of the rounds' ratios. It needs the repository's history.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.circumstances import line, told
from tests.benchmarks.guard import checkout
from tests.benchmarks.hostpath.__main__ import texts
from tests.benchmarks.hostpath.run import and_more, fill, run
from tests.benchmarks.results import add_argument, save, table
from worker.demo.broker import EmbeddedKafka

STEPS = {
    "4d837dd": "before",
    "bf49dcb": "scores rounded by batch, histograms fed by arrays, named tuples, keys' hashes "
    "remembered, rows padded at once",
    "eaab583": "batcher: a queue for each length",
    "134ea0f": "outputs straight to the client's accumulator; cycles sought rarely, never in "
    "code and model",
    "58390f5": "less for each record in decoding and in a batch's counters",
    "d4c0dcc": "less padding with mixed lengths; no record in a cycle",
}
"""Commits and what came with them."""
GUARANTEES = ("at_least_once", "exactly_once")
TOPIC = "backlog"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=40_000)
    add_argument(parser)
    given = parser.parse_args()
    start = told()
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        roots = {revision: checkout(revision, directory / revision) for revision in STEPS}
        fill(kafka.bootstrap_servers, TOPIC, texts(), and_more(given.messages))
        for turn in range(given.rounds):
            for guarantee in GUARANTEES:
                for revision in list(roots)[:: -1 if turn % 2 else 1]:
                    figures = run(
                        kafka.bootstrap_servers, TOPIC, messages=given.messages,
                        guarantee=guarantee, name=f"{revision}-{guarantee}-{turn}",
                        directory=directory, root=roots[revision],
                    )  # fmt: skip
                    one = {"rate": figures.rate, "interpreter": figures.interpreter}
                    found.setdefault(guarantee, {}).setdefault(revision, []).append(one)
                    print(f"round {turn + 1}: {guarantee}: {revision}: {figures.rate:,.0f}/s",
                          file=sys.stderr, flush=True)  # fmt: skip
    results = {"circumstances": start, "rounds": given.rounds, "steps": STEPS, "runs": found}
    save("steps", results, keep=given.keep)
    print(f"{line(start)}; {given.rounds} rounds\n\n{report(results)}")


def report(found: dict[str, dict]) -> str:
    """The table, from what was written as JSON."""
    lines = []
    for revision, what in found["steps"].items():
        cells = []
        for by_revision in found["runs"].values():
            runs, first = by_revision[revision], next(iter(by_revision.values()))
            ratios = [run["rate"] / base["rate"] for run, base in zip(runs, first, strict=True)]
            rate, interpreter = (
                statistics.median(run[what] for run in runs) for what in ("rate", "interpreter")
            )
            cells += [f"{rate:,.0f} ({statistics.median(ratios):.2f})", f"{interpreter:.0f}"]
        lines.append([f"`{revision}`", what, *cells])
    head = ["commit", "what came with it"]
    for guarantee in found["runs"]:
        head += [f"{guarantee}, messages/s (ratio)", "interpreter, µs a record"]
    return table(head, lines)


if __name__ == "__main__":
    main()
