"""What the tests of the whole path share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = 900
"""Of the training sentences, which are in random order. All of them take a minute to train, and no
test needs the accuracy that they give."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """EMOTION_CHECKPOINT, or the packaged encoder after an epoch of some of our sentences."""
    if named := os.environ.get("EMOTION_CHECKPOINT"):
        return Path(named)
    from tests.support.worker_process import clean_environment

    path = tmp_path_factory.mktemp("model") / "emotion-minilm"
    data = shutil.copytree(ROOT / "train" / "data", path.parent / "data")
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(lines[:SENTENCES]), encoding="utf-8")
    command = [
        sys.executable, "-m", "train", "run", "--dataset", str(data),
        "--base-model", "packaged", "--output", str(path), "--epochs", "1",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=clean_environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return path
