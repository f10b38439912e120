"""What the tests of the whole path share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """EMOTION_CHECKPOINT, or the packaged encoder after an epoch of the demo's sentences."""
    if named := os.environ.get("EMOTION_CHECKPOINT"):
        return Path(named)
    from tests.support.worker_process import clean_environment

    path = tmp_path_factory.mktemp("model") / "emotion-minilm"
    command = [
        sys.executable, "-m", "train", "run", "--dataset", str(ROOT / "train" / "data"),
        "--base-model", "packaged", "--output", str(path), "--epochs", "1",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=clean_environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return path
