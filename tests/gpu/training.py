"""Training: samples/s of `emotion-train` beside `Trainer`'s defaults on a BERT-base shape,
and the packaged encoder fine-tuned on the real tweets: its accuracy and its seconds."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from datasets import disable_progress_bars

from tests.benchmarks import circumstances
from tests.benchmarks.training import head, our_options, plain_options, seconds
from tests.gpu.place import Place, card, stage
from tests.support.worker_process import ROOT, clean_environment
from train import hub, machine
from train.dataset import Columns, load_for_training

NOTEBOOK = 72.8
"""Samples/s of the notebook's training of BERT-base."""


def measure(place: Place) -> dict[str, Any]:
    """Both rates, and what a whole training gives."""
    hub.quiet()
    disable_progress_bars()
    data = circumstances.tweets() or ROOT / "train" / "data"
    corpus = load_for_training(str(data), columns=Columns())
    on = machine.choose(place.device, "auto")
    base = str(place.checkpoint("tiny" if place.tiny else "bert-base"))
    found: dict[str, Any] = {"card": card(place.device), "notebook": NOTEBOOK, "rates": {}}
    texts = 64 if place.tiny else 2_000
    for name, make in (("plain", plain_options), ("emotion-train", our_options)):
        seconds(make, head(corpus, 64), base_model=base, on=on)
        took = seconds(make, head(corpus, texts), base_model=base, on=on)
        found["rates"][name] = texts / took
        place.keep(found)
    if not place.tiny:
        found["whole"] = whole(place, str(data))
    return found


def whole(place: Place, data: str) -> dict[str, Any]:
    """Three epochs of the packaged encoder on the real tweets."""
    path = place.folder / f"fine-tuned-{os.getpid()}"
    command = [sys.executable, "-m", "train", "run", "--dataset", data, "--base-model", "packaged"]
    command += ["--output", str(path), "--device", place.device]
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True)
    took = time.perf_counter() - begin
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    return {"seconds": took, "metrics": manifest["metrics"], "dataset": manifest["dataset"]}


if __name__ == "__main__":
    stage(measure)
