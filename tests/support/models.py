"""Models that several tests use, made once for all test processes, each by a process of its own:
a test that only needs the files imports no torch."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import once

ROOT = Path(__file__).resolve().parents[2]

_TINY = """
import sys
from pathlib import Path
from tests.support import tiny
from train.__main__ import main
path = Path(sys.argv[1])
tiny.dataset(path / "data", rows=240)
tiny.base_model(path / "base")
sys.exit(main([
    "run", f"--dataset={path / 'data'}", f"--base-model={path / 'base'}",
    f"--output={path / 'trained'}", "--name=tiny-emotions", "--device=cpu", "--precision=float32",
    "--epochs=8", "--learning-rate=0.01", "--batch-size=16",
    "--temperature=0.5",  # sentences this easy have no best one
]))
"""


def tiny_models(factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, a tiny encoder; `data`, its data set; and `trained`, a checkpoint that
    `emotion-train run` made of the two."""

    def make(path: Path) -> None:
        # A model this small is slower with more threads.
        _run([sys.executable, "-c", _TINY, str(path)], OMP_NUM_THREADS="1")

    return once(factory, "tiny-models", make)


def untrained(factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint without a manifest."""

    def make(path: Path) -> None:
        program = "import sys, pathlib; from tests.support import tiny; "
        program += "tiny.checkpoint(pathlib.Path(sys.argv[1]))"
        _run([sys.executable, "-c", program, str(path)])

    return once(factory, "tiny", make)


ROWS = {"train": 1_200, "validation": 200}
"""Of the tweets: enough for a model that knows its labels."""


def minilm(factory: pytest.TempPathFactory, tweets: Path) -> Path:
    """A checkpoint: the packaged encoder after two epochs of some of the real tweets.

    Args:
        factory: pytest's.
        tweets: Their directory.
    """

    return once(factory, "emotion-minilm", lambda path: train_minilm(path, tweets))


def train_minilm(path: Path, tweets: Path) -> None:
    """Writes the checkpoint of `minilm`, and the tweets it is of beside it."""
    data = path.with_name("some-tweets")
    data.mkdir(exist_ok=True)
    shutil.copy(tweets / "README.md", data)
    for split, rows in ROWS.items():
        with (tweets / f"{split}.jsonl").open(encoding="utf-8") as lines:
            some = "".join(itertools.islice(lines, rows))
        (data / f"{split}.jsonl").write_text(some, encoding="utf-8")
    _run([
        sys.executable, "-m", "train", "run", "--dataset", str(data),
        "--base-model", "packaged", "--output", str(path), "--epochs", "2",
        "--freeze-layers", "4", "--learning-rate", "5e-4",
    ])  # fmt: skip


def _run(command: list[str], **variables: str) -> None:
    from tests.support.worker_process import clean_environment  # imports the client, with warnings

    done = subprocess.run(
        command, env=clean_environment(**variables), cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
