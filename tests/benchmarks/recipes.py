"""The recipes of `emotion-train run` beside each other, over several seeds, on the real tweets.

    python -m tests.benchmarks.recipes --teacher DIRECTORY [--folder DIRECTORY] [--seeds 3]
        [--at-once 1] [--keep]

The packaged encoder is trained on `train` without 2,000 rows, the development split, which choose
the epoch, the temperature and whatever else a run chooses. `validation` is measured, and chooses
nothing; five of its texts are in `train` too. Recipes run in turns, so that what else the machine
does falls on all; `--at-once` trains several side by side, which share the cores, and the results
say so. The whole takes hours: with `--folder` a run of the same options, teacher and
data that is there is not trained again, and the results name the commits of all runs.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.benchmarks.circumstances import commit, line, told, tweets
from tests.benchmarks.results import add_argument, parsed, save, table
from tests.support.worker_process import ROOT, clean_environment
from train.recipes import RECIPES

HELD = 2_000
"""Rows of the development split."""
BASE = "balanced"
"""What the others are compared with: a run's defaults, the reference notebook's three epochs."""
DRAWS = 2_000
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SPLITS = ("development", "validation")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, help="checkpoint from which the recipe best learns")
    parser.add_argument("--folder", type=Path, help="where the checkpoints stay")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    add_argument(parser)
    given = parsed(parser, "--seeds")
    if tweets() is None:
        sys.exit("the real tweets are not here: name their directory with EMOTION_TWEETS")
    if given.keep and not given.teacher:
        parser.error("--keep needs --teacher: the table has a recipe with one")
    if given.teacher and not (given.teacher / "manifest.json").is_file():
        parser.error(f"--teacher {given.teacher}: is no checkpoint of emotion-train")
    start, names = told(), [name for name in RECIPES if name != "best" or given.teacher]
    with tempfile.TemporaryDirectory() as passing:
        folder = given.folder or Path(passing)
        cut(tweets(), folder / "data")
        asks, threads = threading.Lock(), max(1, CORES // given.at_once)
        with ThreadPoolExecutor(given.at_once) as pool:
            begun = {
                (name, seed): pool.submit(
                    trained, folder, name, seed=seed, teacher=given.teacher, threads=threads,
                    asks=asks,
                )
                for seed in range(1, given.seeds + 1)
                for name in turned(names, seed)
            }  # fmt: skip
            try:
                done = {which: run.result() for which, run in begun.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # those that have not begun
                raise
    runs = {name: [done[name, seed] for seed in range(1, given.seeds + 1)] for name in names}
    commits = sorted({run["commit"] for found in runs.values() for run in found})
    results = {
        "circumstances": start,
        "commits": commits,
        "cores": CORES,
        "runs": runs,
        "apart": apart(runs),
    }
    for each in (one for found in runs.values() for one in found):
        del each["right"]
    save("recipes", results, keep=given.keep)
    print(f"{line(start)}\n\n{report(results)}")


def turned(names, by):
    """In another order for each seed."""
    by %= len(names)
    return names[by:] + names[:by]


def cut(source, folder):
    """The dataset: `train` without the development split, which is its `validation`.

    The rows of the development split are those whose texts have the lowest digests: the same at
    every run, and copies of a text are on one side.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = (source / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    rank = [hashlib.sha256(json.loads(row)["text"].encode()).hexdigest() for row in rows]
    end = sorted(rank)[HELD]
    held = {number for number, each in enumerate(rank) if each < end}
    kept = [row for number, row in enumerate(rows) if number not in held]
    (folder / "train.jsonl").write_text("".join(kept), encoding="utf-8")
    left = "".join(rows[number] for number in sorted(held))
    (folder / "validation.jsonl").write_text(left, encoding="utf-8")
    for extra in source.glob("README*"):
        shutil.copyfile(extra, folder / extra.name)


def trained(folder, name, *, seed, teacher, threads, asks):
    """The figures of one run, which is trained where the folder has none of the same kind."""
    options = ["--base-model", "packaged", "--seed", str(seed), "--recipe", name]
    if name == "best" and teacher:
        options += ["--teacher", str(teacher)]
    output = folder / f"{name}-{seed}-{kind(folder, [*options, str(RECIPES[name])], teacher)}"
    told_by, work = output.with_suffix(".json"), output.with_suffix(".work")
    if not told_by.exists():
        for begun in (output, work):
            shutil.rmtree(begun, ignore_errors=True)  # what was interrupted has no whole time
        work.mkdir()
        revision, kept, found = commit(), [], None
        if "--teacher" in options:
            with asks:  # by one run: its logits are of these texts, whatever the seed
                logits = folder / f"logits-{kind(folder, [], teacher)}"
                kept = copied(logits, work)
                if not kept:
                    found = run(folder, output, options, threads)
                    logits.mkdir(exist_ok=True)
                    copied(work, logits)
        found = found or run(folder, output, options, threads)
        facts = {"commit": revision, "threads": threads, "asked_before": bool(kept), **found}
        told_by.write_text(json.dumps(facts), encoding="utf-8")
    figures, right = {}, {}
    for split, data in zip(SPLITS, (folder / "data", tweets()), strict=True):
        figures[split], right[split] = measured(output, data, fitted=split == "development")
    return {**json.loads(told_by.read_text(encoding="utf-8")), **figures, "right": right}


def copied(source, target):
    """The names of a teacher's logits that are copied from one directory to another."""
    kept = [*source.glob("teacher-*.npy")]
    for path in kept:
        shutil.copyfile(path, target / path.name)
    return [path.name for path in kept]


def run(folder, output, options, threads):
    """Trains, and tells minutes and samples/s."""
    command = [sys.executable, "-m", "train", "run", "--dataset", str(folder / "data")]
    command += ["--output", str(output), "--work-dir", str(output.with_suffix(".work")), *options]
    print(" ".join(command), file=sys.stderr, flush=True)
    began = time.monotonic()
    done = subprocess.run(
        command, env=clean_environment(OMP_NUM_THREADS=str(threads)), cwd=ROOT, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    rate = re.search(r"([\d,]+) s, ([\d,]+) samples/s", done.stdout)
    minutes = (time.monotonic() - began) / 60
    return {"minutes": minutes, "rate": float(rate[2].replace(",", ""))}


def kind(folder, options, teacher):
    """A digest of what decides the weights, but for the code: whose commit is told."""
    from train import manifest

    digest = hashlib.sha256(" ".join(options).encode())
    for path in sorted((folder / "data").glob("*.jsonl")):
        digest.update(path.read_bytes())
    if teacher:
        digest.update(manifest.version(teacher).encode())
    return digest.hexdigest()[:8]


def measured(checkpoint, dataset, *, fitted):
    """Figures on a dataset's `validation`, and whether each text is labelled right, (texts).

    ``fitted`` says whether the temperature was fitted on it: then its error is cross-fitted.
    """
    from train import calibrate, classify, machine, metrics
    from train.dataset import Columns, load_for_evaluation

    model = classify.load(checkpoint, on=machine.choose("auto", "float32"))
    data = load_for_evaluation(
        str(dataset), split="validation", columns=Columns(), labels=model.labels
    )
    logits, targets = model.logits(data.texts), np.array(data.targets)
    found = metrics.measure(
        logits, data.targets, labels=model.labels, temperature=model.facts.temperature,
        cross_fitted=calibrate.cross_fitted(logits, targets) if fitted else None,
    ).as_json()  # fmt: skip
    figures = {key: found[key] for key in ("accuracy", "macro_f1", "ece")}
    return figures, logits.argmax(axis=1) == targets


def apart(runs):
    """How much more each recipe has right than `BASE`, with intervals of 95 %.

    Texts and seeds are drawn with replacement, the same ones for both.
    """
    source = np.random.default_rng(0)
    found = {}
    for name in runs:
        if name == BASE:
            continue
        found[name] = {}
        for split in SPLITS:
            ours, base = (
                np.array([run["right"][split] for run in runs[each]], dtype=float)
                for each in (name, BASE)
            )
            more = ours - base
            seeds, texts = more.shape
            draws = [
                more[source.integers(seeds, size=seeds)][:, source.integers(texts, size=texts)]
                for _ in range(DRAWS)
            ]
            low, high = np.quantile([draw.mean() for draw in draws], [0.025, 0.975])
            found[name][split] = [float(more.mean()), float(low), float(high)]
    return found


def report(found):
    """The table, from what was written as JSON."""

    def mean(name, of):
        return statistics.mean(of(run) for run in found["runs"][name])

    def minutes():
        for name, runs in found["runs"].items():
            alone = [run["minutes"] for run in runs if run["asked_before"] or name != "best"]
            yield name, statistics.mean(alone or [run["minutes"] for run in runs])

    def more(name, split):
        if name == BASE:
            return ""
        middle, low, high = (100 * value for value in found["apart"][name][split])
        return f" ({middle:+.2f}, {low:+.2f} to {high:+.2f})"

    took = dict(minutes())
    lines = [
        [
            f"`{name}`",
            *(
                f"{mean(name, lambda run, split=split: run[split]['accuracy']):.2%}"
                f"{more(name, split)}"
                for split in SPLITS
            ),
            f"{mean(name, lambda run: run['validation']['macro_f1']):.3f}",
            f"{mean(name, lambda run: run['validation']['ece']):.3f}",
            f"{took[name]:.1f}",
            f"{mean(name, lambda run: run['rate']):.0f}",
        ]
        for name in found["runs"]
    ]
    seeds = len(found["runs"][BASE])
    threads = {run["threads"] for runs in found["runs"].values() for run in runs}
    beside = f"; a run has {' or '.join(map(str, sorted(threads)))} of {found['cores']} cores"
    head = ["recipe", "development", "validation", "macro F1", "ECE", "minutes", "samples/s"]
    return (
        f"Means of {seeds} seeds; in brackets points more than `{BASE}`, and their"
        " interval of 95 %. F1 and ECE on validation. Minutes of the whole command, without those"
        f" in which the teacher is asked, which is once{beside}. Trained at"
        f" {' and '.join(found['commits'])}."
        f"\n\n{table(head, lines)}"
    )


if __name__ == "__main__":
    main()
