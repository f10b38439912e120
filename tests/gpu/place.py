"""What every stage of the kit is given: the device, the texts, checkpoints of known shapes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import circumstances, growth
from tests.support.worker_process import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = {
    "minilm": (6, 384, 12, 1_536),
    "bert-base": (12, 768, 12, 3_072),
    "bert-large": (24, 1_024, 16, 4_096),
    "tiny": (2, 64, 2, 128),
}
"""Layers, width, heads, and width within the feed-forward network. All but `minilm`, which is the
packaged encoder, have random weights."""
_CHECKPOINT = """
import sys
import transformers as t
from train.encoder import packaged

path, name, layers, width, heads, inner = sys.argv[1:3] + list(map(int, sys.argv[3:]))
t.set_seed(0)
config = t.AutoConfig.from_pretrained(packaged(), num_labels=6)
model = t.AutoModelForSequenceClassification
if name == "minilm":
    network = model.from_pretrained(packaged(), config=config, dtype="float32")
else:
    config.num_hidden_layers, config.hidden_size = layers, width
    config.num_attention_heads, config.intermediate_size = heads, inner
    network = model.from_config(config)
network.save_pretrained(path)
t.AutoTokenizer.from_pretrained(packaged()).save_pretrained(path)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a stage runs, and how much of it."""

    device: str
    """`cuda` or `cpu`."""
    tiny: bool
    """A few seconds of everything: it shows that all of it works, and measures nothing."""
    folder: Path
    """For what is of no use afterwards; kept from one stage to the next."""
    out: Path
    """Gets what was found so far, again and again: a stage that is stopped loses nothing."""
    until: float
    """In seconds of `time.monotonic`: nothing more is begun then."""

    def keep(self, found: dict[str, Any]) -> None:
        """Writes what was found so far."""
        new = self.out.with_suffix(".new")
        new.write_text(json.dumps(found))
        new.replace(self.out)

    @property
    def over(self) -> bool:
        """Whether there is no time for more."""
        return time.monotonic() >= self.until

    @property
    def shapes(self) -> tuple[str, ...]:
        return ("tiny", "minilm") if self.tiny else ("bert-base", "minilm", "bert-large")

    def excused(self, error: Exception) -> str:
        """A line for a part of a stage that failed; the other parts are of use. Raises if tiny."""
        if self.tiny:
            raise error
        return f"{type(error).__name__}: {error}"[:300]

    def checkpoint(self, name: str) -> Path:
        """A checkpoint of one of `SHAPES`, made once."""
        path = self.folder / name
        if not (path / "tokenizer.json").exists():
            command = [sys.executable, "-c", _CHECKPOINT, str(path), name]
            subprocess.run(
                [*command, *map(str, SHAPES[name])], cwd=ROOT, check=True, capture_output=True,
                env=clean_environment(HF_HUB_OFFLINE="1"),
            )  # fmt: skip
        return path

    def texts(self) -> list[str]:
        """Real tweets where they are, else the demo's sentences."""
        tweets = circumstances.tweets()
        path = tweets / "train.jsonl" if tweets else ROOT / "train" / "data" / "train.jsonl"
        found = circumstances.read_texts(path)
        return found[:64] if self.tiny else found

    def skewed(self) -> list[str]:
        """Most are short, a few are as long as the model takes."""
        found = growth.of_tokens("skewed")
        return found if self.tiny else found * 100


def synchronized(device: str) -> None:
    """Waits until the device has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def card(device: str) -> dict[str, Any]:
    """What a figure needs beside it: the card, and the versions of its software."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device == "cuda":
        given = torch.cuda.get_device_properties(0)
        found |= {
            "card": given.name,
            "capability": f"{given.major}.{given.minor}",
            "memory_gb": round(given.total_memory / 1e9),
            "multiprocessors": given.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def stage(measure: Callable[[Place], dict[str, Any]]) -> None:
    """A stage's main program: measures, and writes what it found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    place = Place(
        device=given.device, tiny=given.tiny, folder=given.folder, out=given.out, until=until
    )
    found = measure(place)
    # It may have left something out then: it is no result to keep for the next run.
    place.keep(found | ({"error": "had no time for all of it"} if place.over else {}))
