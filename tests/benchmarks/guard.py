"""`make bench-guard`: has the host path, or the model stage, become slower than a commit before?

    python -m tests.benchmarks.guard [--before REVISION] [--rounds 3] [--keep]

The commit before is the parent of the last one that changed `worker/`. Both checkouts run in turns.
Processor time for a record is compared, which other programs disturb least. It fails (1) only if
even the best round is below 0.9 of the speed before: this machine's noise must not fail a good
change. Where there is nothing to compare with it says so and passes: a clone without that history,
or a commit before that does not run in this benchmark.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.checkpoint import untrained
from tests.benchmarks.circumstances import line, told
from tests.benchmarks.hostpath.__main__ import instant, texts
from tests.benchmarks.hostpath.run import and_more, fill, run
from tests.benchmarks.results import add_argument, save, table
from tests.support.worker_process import ROOT, clean_environment
from worker.demo.broker import EmbeddedKafka

LEAST = 0.9
MESSAGES = 40_000
TOPIC = "backlog"
MODEL_TEXTS = 1_500
MODEL = """
import json, sys, time
from pathlib import Path
from worker.model.load import load

texts = json.load(sys.stdin)
# Not whichever way is faster in a moment's trial: that may differ from run to run.
model = load(path=Path(sys.argv[1]), device="cpu", dtype="float32", rows="packed")
for again in range(2):  # the first warms up
    begin = time.process_time()
    for at in range(0, len(texts), 64):
        rows = [ids for ids, _ in model.tokenize(texts[at : at + 64])]
        model.scores(model.launch(model.stage(sorted(rows, key=len))))
print((time.process_time() - begin) / len(texts) * 1e6)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", help="a revision (default: before the worker's last change)")
    parser.add_argument("--rounds", type=int, default=3)
    add_argument(parser)
    given = parser.parse_args()
    before = given.before or before_last_change()
    if before is None:
        print("no commit before the worker's last change is here: nothing to compare with")
        return 0
    start = told()
    found: dict[str, dict[str, list[float]]] = {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        roots = {"before": checkout(before, directory / "before"), "this": ROOT}
        checkpoint = untrained(directory / "checkpoint")
        lines = texts()
        fill(kafka.bootstrap_servers, TOPIC, lines, and_more(MESSAGES))
        measure = partial(
            measured, bootstrap=kafka.bootstrap_servers, directory=directory,
            checkpoint=checkpoint, lines=lines,
        )  # fmt: skip
        for turn in range(given.rounds):
            for name in list(roots) if turn % 2 else list(reversed(roots)):
                try:
                    spent = measure(f"{name}-{turn}", roots[name])
                except (AssertionError, subprocess.CalledProcessError) as error:
                    if name == "this":
                        raise
                    print(f"{before} does not run in this benchmark: {error}")
                    return 0
                for stage, value in spent.items():
                    found.setdefault(stage, {}).setdefault(name, []).append(value)
    results = {"circumstances": start, "before": before, "microseconds": found}
    save("guard", results, keep=given.keep)
    print(f"{line(start)}; {given.rounds} rounds, before: {before}\n\n{report(results)}")
    slow = slower(found)
    for name in slow:
        print(f"\n{name}: slower than {LEAST} of {before} in every round", file=sys.stderr)
    return 1 if slow else 0


def measured(
    name: str, root: Path, *, bootstrap: str, directory: Path, checkpoint: Path, lines: list[str]
) -> dict[str, float]:
    """Microseconds of processor time a record, of each stage of a checkout."""
    figures = run(
        bootstrap, TOPIC, messages=MESSAGES, name=name, directory=directory, root=root,
        instant=instant(tokenizer=True),
    )  # fmt: skip
    return {
        "host path": figures.interpreter + figures.native + figures.system,
        "model stage": model_stage(root, checkpoint, lines[:MODEL_TEXTS]),
    }


def before_last_change() -> str | None:
    """The commit before the last one that changed the worker; None where it is not here."""
    code = "--", ":(glob)worker/**/*.py"
    if git("status", "--porcelain", *code).stdout:  # the change is not committed yet
        return git("rev-parse", "--short", "HEAD").stdout.strip()
    last = git("log", "-1", "--format=%h", *code).stdout.strip()
    found = git("rev-parse", "--quiet", "--verify", "--short", f"{last}~1").stdout.strip()
    return found if last and found else None


def checkout(revision: str, folder: Path) -> Path:
    """A revision's files. The repository does not know of them: nothing is left behind in it."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def git(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)


def model_stage(root: Path, checkpoint: Path, lines: list[str]) -> float:
    """Microseconds of processor time a text, of a checkout's tokenizer, padding and model."""
    done = subprocess.run(
        [sys.executable, "-c", MODEL, str(checkpoint)], input=json.dumps(lines), text=True,
        # Passive, as the worker sets it: threads that wait would spin, and count as work.
        env=clean_environment(PYTHONPATH=str(root), OMP_WAIT_POLICY="PASSIVE"), cwd=root,
        check=True, capture_output=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def slower(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """What has become slower, in every round."""
    return [name for name, runs in found.items() if max(ratios(runs)) < LEAST]


def ratios(runs: dict[str, list[float]]) -> list[float]:
    """How fast this is, in parts of the speed before, by round."""
    return [was / now for was, now in zip(runs["before"], runs["this"], strict=True)]


def report(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """The table, from what was written as JSON."""
    lines = []
    for name, runs in found["microseconds"].items():
        found_ratios = ratios(runs)
        lines.append(
            [
                name,
                *(f"{statistics.median(runs[side]):.0f}" for side in ("before", "this")),
                (
                    f"{statistics.median(found_ratios):.2f} "
                    f"({min(found_ratios):.2f} to {max(found_ratios):.2f})"
                ),
            ]
        )
    return table(["stage", "µs a record before", "this", "ratio (range)"], lines)


if __name__ == "__main__":
    sys.exit(main())
