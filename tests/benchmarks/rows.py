"""Packed rows beside padded ones: the model stage alone, on this machine's device.

    python -m tests.benchmarks.rows [--checkpoint DIRECTORY] [--rounds 5] [--keep]

MiniLM, fine-tuned here unless a checkpoint is named, on the real tweets (else the demo's
sentences), in the precision that `auto` takes. With a
backlog batches are those that the worker's batcher makes of all texts; without one a batch is what
there is, of mixed lengths as they come. The two ways run in turns.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.checkpoint import fine_tuned
from tests.benchmarks.circumstances import line, read_texts, texts, told
from tests.benchmarks.results import add_argument, save, table

MOST = 1_000
"""Texts."""
BUDGETS = (256, 512, 1_024, 2_048)
MIXED = (1, 4, 16, 64)
"""Texts of a batch without a backlog."""
WAYS = ("padded", "packed")


def main():
    from tests.gpu.model import batched, through
    from worker.model.load import load

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    add_argument(parser)
    given = parser.parse_args()
    start, found = told(), {}
    with tempfile.TemporaryDirectory() as folder:
        path = given.checkpoint or fine_tuned(Path(folder) / "checkpoint")
        models = {way: load(path=path, device="auto", dtype="auto", rows=way) for way in WAYS}
    rows = [ids for ids, _ in models["packed"].tokenize(read_texts(texts())[:MOST])]
    cases = {f"a backlog, {tokens:,} tokens": (tokens, None) for tokens in BUDGETS}
    cases |= {f"mixed lengths, {texts} at a time": (None, texts) for texts in MIXED}
    for turn in range(given.rounds + 1):
        for name, (tokens, count) in cases.items():
            for way in WAYS if turn % 2 else reversed(WAYS):
                model = models[way]
                if count is None:
                    batches = batched(rows, tokens, model.layout)
                else:
                    batches = [rows[at : at + count] for at in range(0, len(rows), count)]
                if count == 1:
                    batches = batches[:200]
                staged = [model.stage(batch) for batch in batches]
                begin = time.perf_counter()
                through(model, staged)
                took = time.perf_counter() - begin
                if turn:  # the first round warms up
                    rate = sum(map(len, batches)) / took
                    found.setdefault(name, {}).setdefault(way, []).append(rate)
        print(f"round {turn}", file=sys.stderr, flush=True)
    results = {
        "circumstances": start,
        "rounds": given.rounds,
        "precision": models["packed"].precision.name,
        "rows": [{"case": name, **ways} for name, ways in found.items()],
    }
    save("rows", results, keep=given.keep)
    print(f"{line(start)}; {given.rounds} rounds\n\n{report(results)}")


def report(found):
    """The table, from what was written as JSON."""
    lines = []
    for row in found["rows"]:
        ratios = [
            packed / padded for padded, packed in zip(*(row[way] for way in WAYS), strict=True)
        ]
        medians = [f"{statistics.median(row[way]):,.0f}" for way in WAYS]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append([row["case"], *medians, spread])
    head = [f"batches, {found['precision']}", "padded, texts/s", "packed, texts/s", "ratio"]
    return table(head, lines)


if __name__ == "__main__":
    main()
