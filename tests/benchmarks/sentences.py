"""Accuracy of the demo's checkpoint against the number of its training sentences.

    python -m tests.benchmarks.sentences [--kept-out N] [--seeds N] [--json FILE]

Sentences that no run trains on are kept out of `train.jsonl` (the last ones; the file is in random
order). Each run is the demo's own, `emotion-train run` with its recipe, on the first so many of the
rest; it is judged on the kept-out ones, so the project's held-out split is not looked at. Its
scores are not calibrated: accuracy does not depend on that.
"""

import argparse
import datetime as dt
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.worker_process import ROOT, clean_environment
from worker.demo.trainer import RECIPE

DATA = ROOT / "train" / "data"
SHARES = (8, 4, 2, 1)
"""A run's part of the sentences: one in so many."""


def run(rows: list[str], kept_out: list[str], *, seed: int) -> dict[str, float]:
    """Accuracy on the kept-out rows and seconds of one training."""
    with tempfile.TemporaryDirectory() as folder:
        data, output = Path(folder) / "data", Path(folder) / "checkpoint"
        data.mkdir()
        (data / "train.jsonl").write_text("".join(rows), encoding="utf-8")
        (data / "test.jsonl").write_text("".join(kept_out), encoding="utf-8")
        (data / "validation.jsonl").write_bytes((DATA / "validation.jsonl").read_bytes())
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "train", "run", f"--dataset={data}", "--base-model=packaged",
             f"--output={output}", f"--seed={seed}", "--temperature=1", *RECIPE],
            env=clean_environment(), cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        metrics = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["metrics"]
        return {
            "accuracy": metrics["test"]["accuracy"],
            "seconds": time.monotonic() - began,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kept-out", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = (DATA / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    rows, kept_out = rows[: -args.kept_out], rows[-args.kept_out :]
    results = {}
    for share in SHARES:
        count = len(rows) // share
        results[count] = [run(rows[:count], kept_out, seed=seed) for seed in range(args.seeds)]
        print(f"{count} {results[count]}", file=sys.stderr, flush=True)
    print(
        f"\n{dt.datetime.now(dt.UTC).date()}, {platform.machine()}, {args.kept_out} sentences kept"
        f" out, mean of {args.seeds} runs each\n"
    )
    print("| training sentences | accuracy | seconds, start to checkpoint |\n|---|---|---|")
    for count, runs in results.items():
        accuracy, seconds = (
            statistics.fmean(each[name] for each in runs) for name in ("accuracy", "seconds")
        )
        print(f"| {count:,} | {accuracy:.3f} | {seconds:.0f} |")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
