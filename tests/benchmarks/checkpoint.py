"""Checkpoints for benchmarks, on the packaged encoder."""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.circumstances import tweets
from tests.support.worker_process import ROOT, clean_environment


def fine_tuned(path: Path) -> Path:
    """Of the real tweets where they are, else of the demo's sentences."""
    found = tweets()
    if found is None:
        return trained(path)
    from tests.support.models import train_minilm

    train_minilm(path, found)
    return path


def trained(path: Path) -> Path:
    """One epoch of the demo's sentences."""
    command = [sys.executable, "-m", "train", "run", "--dataset", str(ROOT / "train" / "data")]
    command += ["--base-model", "packaged", "--output", str(path), "--epochs", "1"]
    subprocess.run(command, env=clean_environment(), cwd=ROOT, check=True, capture_output=True)
    return path


def untrained(path: Path) -> Path:
    """The packaged encoder with a head of random weights: as fast as a trained one."""
    program = (
        "import sys, transformers as t; from train.encoder import packaged; t.set_seed(0); "
        "c = t.AutoConfig.from_pretrained(packaged(), num_labels=6); "
        "t.AutoModelForSequenceClassification.from_pretrained(packaged(), config=c)"
        ".save_pretrained(sys.argv[1]); "
        "t.AutoTokenizer.from_pretrained(packaged()).save_pretrained(sys.argv[1])"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=clean_environment(HF_HUB_OFFLINE="1"), cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return path
