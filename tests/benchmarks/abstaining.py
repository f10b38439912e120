"""What `model.abstain` costs: the host path and the model stage with it and without, in turns.

    python -m tests.benchmarks.abstaining [--checkpoint DIRECTORY] [--rounds 5] [--keep]

The host path is the worker with a model that takes no time, on a backlog; half of its labels are
abstained on. The model stage is MiniLM on the real tweets (else the demo's sentences).
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.checkpoint import untrained
from tests.benchmarks.circumstances import line, read_texts, texts, told
from tests.benchmarks.hostpath.run import and_more, fill, run
from tests.benchmarks.results import add_argument, save, table
from worker.demo.broker import EmbeddedKafka

MESSAGES = 60_000
MOST = 1_000
"""Texts of the model stage."""
TOKENS = 1_024
WAYS = {"off": {}, "on": {"abstains": True}}
STAGES = ("host path", "model stage")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    add_argument(parser)
    given = parser.parse_args()
    start, found = told(), {stage: {way: [] for way in WAYS} for stage in STAGES}
    words = read_texts(texts())
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        fill(kafka.bootstrap_servers, "backlog", words, and_more(given.messages))
        for turn in range(given.rounds):
            for way in WAYS if turn % 2 else reversed(WAYS):
                figures = run(
                    kafka.bootstrap_servers, "backlog", messages=given.messages,
                    name=f"{way}-{turn}", directory=Path(folder), instant=WAYS[way],
                )  # fmt: skip
                found["host path"][way].append(figures.rate)
            print(f"host path, round {turn + 1}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = given.checkpoint or untrained(Path(folder) / "checkpoint")
        for way, rates in model_rates(path, words[:MOST], rounds=given.rounds).items():
            found["model stage"][way] = rates
    results = {"circumstances": start, "rounds": given.rounds, **found}
    save("abstaining", results, keep=given.keep)
    print(f"{line(start)}\n\n{report(results)}")


def model_rates(path, words, *, rounds):
    """Texts/s of the model stage, by way, a figure for each round."""
    from tests.gpu.model import batched, through
    from worker.classifier import Abstention
    from worker.model.load import load

    model = load(path=path, device="auto", dtype="auto")
    limits = {"off": None, "on": Abstention(score=0.5, energy=0.0)}
    rows = [ids for ids, _ in model.tokenize(words)]
    staged = [model.stage(batch) for batch in batched(rows, TOKENS, model.layout)]
    found = {way: [] for way in WAYS}
    for turn in range(rounds + 1):
        for way in WAYS if turn % 2 else reversed(WAYS):
            model.abstention = limits[way]
            begin = time.perf_counter()
            through(model, staged)
            if turn:  # the first round warms up
                found[way].append(len(rows) / (time.perf_counter() - begin))
        print(f"model stage, round {turn}", file=sys.stderr, flush=True)
    return found


def report(found):
    """The table, from what was written as JSON."""
    lines = []
    for stage in STAGES:
        off, on = (found[stage][way] for way in WAYS)
        ratios = [one / other for one, other in zip(on, off, strict=True)]
        lines.append([
            stage,
            *(f"{statistics.median(rates):,.0f}" for rates in (off, on)),
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        ])  # fmt: skip
    head = ["stage", "off, messages/s", "on, messages/s", "ratio"]
    return table(head, lines)


if __name__ == "__main__":
    main()
