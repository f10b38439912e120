"""Models that several tests use, made once for all test processes, each by a process of its own:
a test that only needs the files imports no torch."""

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
tiny.checkpoint(path / "untrained")
sys.exit(main([
    "run", f"--dataset={path / 'data'}", f"--base-model={path / 'base'}",
    f"--output={path / 'trained'}", "--name=tiny-emotions", "--device=cpu", "--precision=float32",
    "--epochs=4", "--learning-rate=0.01", "--batch-size=16",
]))
"""


def tiny_models(factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, a tiny encoder; `data`, its data set; `trained`, a checkpoint that
    `emotion-train run` made of the two; and `untrained`, one without a manifest."""
    return once(factory, "tiny-models", lambda path: _run([sys.executable, "-c", _TINY, str(path)]))


SENTENCES = 1_800
"""Of the training sentences, which are in random order. All of them take a minute to train, and no
test needs the accuracy that they give."""


def minilm(factory: pytest.TempPathFactory) -> Path:
    """A checkpoint: the packaged encoder after two epochs of some of the project's sentences."""

    def make(path: Path) -> None:
        data = path.with_name("sentences")
        shutil.copytree(ROOT / "train" / "data", data, dirs_exist_ok=True)
        lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (data / "train.jsonl").write_text("".join(lines[:SENTENCES]), encoding="utf-8")
        _run([
            sys.executable, "-m", "train", "run", "--dataset", str(data),
            "--base-model", "packaged", "--output", str(path), "--epochs", "2",
            "--freeze-layers", "4", "--learning-rate", "5e-4",
        ])  # fmt: skip

    return once(factory, "emotion-minilm", make)


def _run(command: list[str]) -> None:
    from tests.support.worker_process import clean_environment  # imports the client, with warnings

    done = subprocess.run(
        command, env=clean_environment(OMP_NUM_THREADS="1"), cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
