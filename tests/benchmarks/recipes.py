"""The recipes of `emotion-train run` beside the plain one, over several seeds, on the real tweets.

    python -m tests.benchmarks.recipes --teacher DIRECTORY [--folder DIRECTORY] [--seeds N] [--keep]

The packaged encoder is trained on `train` without 2,000 rows, the development split, which choose
the epoch, the temperature and whatever else a run chooses. `validation` is measured, and chooses
nothing. Recipes run in turns, so that what else the machine does falls on all. With `--folder` a
run that is there is not trained again: the whole takes hours.
"""

import argparse
import hashlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.circumstances import line, told, tweets
from tests.benchmarks.results import add_argument, parsed, save, table
from tests.support.worker_process import ROOT, clean_environment

HELD = 2_000
"""Rows of the development split."""
PLAIN = ("--recipe", "balanced", "--epochs", "3")
"""What a run was before there were recipes: three epochs of cross-entropy."""
RECIPES = {
    "plain": PLAIN,
    "fast": ("--recipe", "fast"),
    "balanced": ("--recipe", "balanced"),
    "best": ("--recipe", "best"),
}
DRAWS = 2_000
SPLITS = {"development": "validation", "validation": "test"}
"""Their names in the dataset that is trained on."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, help="checkpoint from which the recipe best learns")
    parser.add_argument("--folder", type=Path, help="where the checkpoints stay")
    parser.add_argument("--seeds", type=int, default=3)
    add_argument(parser)
    given = parsed(parser, "--seeds")
    if tweets() is None:
        sys.exit("the real tweets are not here: name their directory with EMOTION_TWEETS")
    if given.keep and not given.teacher:
        parser.error("--keep needs --teacher: the table has a recipe with one")
    start = told()
    with tempfile.TemporaryDirectory() as passing:
        folder = given.folder or Path(passing)
        cut(tweets(), folder / "data")
        runs = {}
        for seed in range(1, given.seeds + 1):
            for name in turned(list(RECIPES), seed):
                runs.setdefault(name, []).append(
                    trained(folder, name, seed=seed, teacher=given.teacher)
                )
    results = {"circumstances": start, "runs": runs, "apart": apart(runs)}
    for each in (one for found in runs.values() for one in found):
        del each["right"]
    save("recipes", results, keep=given.keep)
    print(f"{line(start)}\n\n{report(results)}")


def turned(names, by):
    """In another order for each seed."""
    by %= len(names)
    return names[by:] + names[:by]


def cut(source, folder):
    """The dataset: `train` without the development split, that split, and validation as `test`.

    The rows of the development split are those whose texts have the lowest digests: the same at
    every run, and copies of a text are on one side.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = (source / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    rank = [hashlib.sha256(json.loads(row)["text"].encode()).hexdigest() for row in rows]
    held = set(sorted(range(len(rows)), key=rank.__getitem__)[:HELD])
    kept = [row for number, row in enumerate(rows) if number not in held]
    (folder / "train.jsonl").write_text("".join(kept), encoding="utf-8")
    left = "".join(rows[number] for number in sorted(held))
    (folder / "validation.jsonl").write_text(left, encoding="utf-8")
    shutil.copyfile(source / "validation.jsonl", folder / "test.jsonl")
    for extra in source.glob("README*"):
        shutil.copyfile(extra, folder / extra.name)


def trained(folder, name, *, seed, teacher):
    """The figures of one run, which is trained where it is not in the folder."""
    output = folder / f"{name}-{seed}"
    told_by = folder / f"{name}-{seed}.json"
    if not told_by.exists():
        work = folder / f"{name}-{seed}.work"
        shutil.rmtree(output, ignore_errors=True)
        command = [sys.executable, "-m", "train", "run", "--dataset", str(folder / "data")]
        command += ["--base-model", "packaged", "--output", str(output), "--seed", str(seed)]
        command += [*RECIPES[name], "--work-dir", str(work)]
        if name == "best" and teacher:
            command += ["--teacher", str(teacher)]
            for asked in folder.glob("*.work/teacher-*.npy"):
                # The teacher is asked once: its logits do not depend on the seed.
                work.mkdir(exist_ok=True)
                if not (work / asked.name).exists():
                    shutil.copyfile(asked, work / asked.name)
        print(" ".join(command), file=sys.stderr, flush=True)
        began = time.monotonic()
        done = subprocess.run(
            command, env=clean_environment(), cwd=ROOT, check=False, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
        minutes = (time.monotonic() - began) / 60
        rate = re.search(r"([\d,]+) s, ([\d,]+) samples/s", done.stdout)
        told_by.write_text(
            json.dumps(
                {
                    "minutes": minutes,
                    "training_minutes": float(rate[1].replace(",", "")) / 60,
                    "rate": float(rate[2].replace(",", "")),
                }
            ),
            encoding="utf-8",
        )
    facts = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    figures = {
        split: {key: facts["metrics"][theirs][key] for key in ("accuracy", "macro_f1", "ece")}
        for split, theirs in SPLITS.items()
    }
    right = {split: answered(folder, output, theirs) for split, theirs in SPLITS.items()}
    return {**json.loads(told_by.read_text(encoding="utf-8")), **figures, "right": right}


def answered(folder, checkpoint, split):
    """Whether each text of the split is labelled right, shape (texts)."""
    from train import classify, machine
    from train.dataset import Columns, load_for_evaluation

    model = classify.load(checkpoint, on=machine.choose("auto", "float32"))
    data = load_for_evaluation(
        str(folder / "data"), split=split, columns=Columns(), labels=model.labels
    )
    return model.logits(data.texts).argmax(axis=1) == np.array(data.targets)


def apart(runs):
    """How much more each recipe has right than the plain one, with intervals of 95 %.

    Texts and seeds are drawn with replacement, the same ones for both.
    """
    source = np.random.default_rng(0)
    found = {}
    for name in runs:
        if name == "plain":
            continue
        found[name] = {}
        for split in SPLITS:
            ours, plain = (
                np.array([run["right"][split] for run in runs[each]], dtype=float)
                for each in (name, "plain")
            )
            more = ours - plain
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

    def more(name, split):
        if name == "plain":
            return ""
        middle, low, high = (100 * value for value in found["apart"][name][split])
        return f" ({middle:+.2f}, {low:+.2f} to {high:+.2f})"

    lines = [
        [
            f"`{name}`" if name != "plain" else name,
            *(
                f"{mean(name, lambda run, split=split: run[split]['accuracy']):.2%}"
                f"{more(name, split)}"
                for split in SPLITS
            ),
            f"{mean(name, lambda run: run['validation']['macro_f1']):.3f}",
            f"{mean(name, lambda run: run['validation']['expected_calibration_error']):.3f}",
            f"{mean(name, lambda run: run['training_minutes']):.1f}",
            f"{mean(name, lambda run: run['rate']):.0f}",
        ]
        for name in found["runs"]
    ]
    seeds = len(found["runs"]["plain"])
    head = ["recipe", "development", "validation", "macro F1", "ECE", "minutes", "samples/s"]
    return (
        f"Means of {seeds} seeds; in brackets points more than the plain recipe, and the interval"
        f" of 95 %. F1 and ECE on validation.\n\n{table(head, lines)}"
    )


if __name__ == "__main__":
    main()
