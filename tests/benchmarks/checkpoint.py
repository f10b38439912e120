"""A checkpoint for benchmarks, where there are no real tweets."""

import subprocess
import sys
from pathlib import Path

from tests.support.worker_process import ROOT, clean_environment


def trained(folder: Path) -> Path:
    """One epoch of the demo's sentences, on the packaged encoder."""
    path = folder / "emotion-minilm"
    command = [sys.executable, "-m", "train", "run", "--dataset", str(ROOT / "train" / "data")]
    command += ["--base-model", "packaged", "--output", str(path), "--epochs", "1"]
    subprocess.run(command, env=clean_environment(), cwd=ROOT, check=True, capture_output=True)
    return path
