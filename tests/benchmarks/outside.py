"""What a checkpoint does with texts unlike those of its training: the sets of `texts/`, and noise.

    python -m tests.benchmarks.outside [--plain DIRECTORY] [--added DIRECTORY] [--tidy DIRECTORY]
        [--keep]

Three checkpoints of the packaged encoder, trained here on the real tweets unless they are named: on
these alone, with `--augment packaged --outliers packaged`, and with `--normalizer tweets` besides.
Validation chooses the thresholds, at 95 % coverage; nothing is fitted on the sets.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.circumstances import line, told, tweets
from tests.benchmarks.results import add_argument, save, table
from tests.support.worker_process import ROOT, clean_environment

TEXTS = Path(__file__).with_name("texts")
COVERAGE = 0.95
HEADS = {
    "plain": "the tweets alone",
    "added": "with `--augment`, `--outliers`",
    "tidy": "and `--normalizer`",
}
ADDED = ("--augment", "packaged", "--outliers", "packaged")
WAYS = {"plain": (), "added": ADDED, "tidy": (*ADDED, "--normalizer", "tweets")}
SETS = ("neutral", "foreign", "emotional")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in WAYS:
        parser.add_argument(f"--{name}", type=Path)
    add_argument(parser)
    given = parser.parse_args()
    if tweets() is None:
        sys.exit("the real tweets are not here: name their directory with EMOTION_TWEETS")
    start = told()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: measured(getattr(given, name) or trained(Path(folder) / name, *options))
            for name, options in WAYS.items()
        }
    results = {"circumstances": start, "coverage": COVERAGE, **found}
    save("outside", results, keep=given.keep)
    print(f"{line(start)}\n\n{report(results)}")


def trained(path, *options):
    """A checkpoint of the packaged encoder on the real tweets."""
    command = [sys.executable, "-m", "train", "run", "--dataset", str(tweets())]
    command += ["--base-model", "packaged", "--output", str(path), *options]
    print(" ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, env=clean_environment(), cwd=ROOT, check=True, capture_output=True)
    return path


def measured(path):
    """All figures of one checkpoint, shares of 0 to 1."""
    from train import abstain, classify, machine
    from train.dataset import Columns, load_for_evaluation

    model = classify.load(path, on=machine.choose("auto", "float32"))
    temperature = model.facts.temperature
    split = load_for_evaluation(
        str(tweets()), split="validation", columns=Columns(), labels=model.labels
    )
    logits = model.logits(split.texts)
    answers = logits.argmax(axis=1)
    kinds = {name: rows(name) for name in SETS}
    theirs = {name: model.logits([row["text"] for row in each]) for name, each in kinds.items()}
    labels = np.array([model.labels.index(row["label"]) for row in kinds["emotional"]])
    signals = abstain.Signals.of(logits, temperature=temperature)
    signals_of = {
        name: abstain.Signals.of(each, temperature=temperature) for name, each in theirs.items()
    }
    both = abstain.thresholds_at(signals, coverage=COVERAGE)
    ways = {
        "score": abstain.Thresholds(
            score=float(np.quantile(signals.scores, 1 - COVERAGE)), energy=float("inf")
        ),
        "energy": abstain.Thresholds(
            score=0.0, energy=float(np.quantile(signals.energies, COVERAGE))
        ),
        "both": both,
    }
    emotional = abstain.apply(signals_of["emotional"], both).answered
    right = theirs["emotional"].argmax(axis=1) == labels
    neutral = abstain.apply(signals_of["neutral"], both).answered
    return {
        "accuracy": float(np.mean(answers == np.array(split.targets))),
        "emotional": float(right.mean()),
        "emotional_answered": float(right[emotional].mean()) if emotional.any() else 0.0,
        "abstained": {
            way: {
                name: float(1 - abstain.apply(each, thresholds).answered.mean())
                for name, each in signals_of.items()
            }
            for way, thresholds in ways.items()
        },
        "neutral": {
            kind: float(1 - neutral[[row["kind"] == kind for row in kinds["neutral"]]].mean())
            for kind in sorted({row["kind"] for row in kinds["neutral"]})
        },
        **typed(model, split, answers),
    }


def typed(model, split, answers):
    """The shares of validation texts that keep their label when typed as people type, and of right
    labels: what a normalisation step could bring at most is the difference to the tidy texts'."""
    from train.noise import RULES, noisy

    kinds = {**{rule: [rule] for rule in RULES}, "one to three": tuple(RULES)}
    found = {name: model.logits(noisy(split.texts, rules=each)) for name, each in kinds.items()}
    labels = {name: each.argmax(axis=1) for name, each in found.items()}
    return {
        "noise": {name: float(np.mean(each == answers)) for name, each in labels.items()},
        "noisy_accuracy": {
            name: float(np.mean(each == np.array(split.targets))) for name, each in labels.items()
        },
    }


def rows(name):
    """The rows of one of the sets."""
    path = TEXTS / f"{name}.jsonl"
    return [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]


def report(found):
    """The table, from what was written as JSON."""

    ways = [way for way in WAYS if way in found]

    def row(name, of):
        return [name, *(f"{of(found[way]):.1%}" for way in ways)]

    def abstains(way, name):
        return lambda one: one["abstained"][way][name]

    lines = [
        row("accuracy on validation", lambda one: one["accuracy"]),
        row("right labels of emotional tweets", lambda one: one["emotional"]),
        *(
            row(f"abstains on {name} tweets, by {way}", abstains(way, name))
            for name in SETS
            for way in ("score", "energy", "both")
        ),
        *(
            row(f"neutral: {kind}, by both", lambda one, kind=kind: one["neutral"][kind])
            for kind in found["plain"]["neutral"]
        ),
        *(
            row(f"label kept after noise: {rule}", lambda one, rule=rule: one["noise"][rule])
            for rule in found["plain"]["noise"]
        ),
        row(
            "accuracy on validation after noise: one to three",
            lambda one: one["noisy_accuracy"]["one to three"],
        ),
    ]
    head = f"validation answered: {found['coverage']:.0%}"
    return table([head, *(HEADS[way] for way in ways)], lines)


if __name__ == "__main__":
    main()
