"""The worker with a model that answers at once: `run.py` starts it, from any checkout.

What it does beside the model is the product's own: tokenizer, padding, the reading of scores.
It imports nothing of the tests, so that it runs from a checkout whose tests are older.

The variable INSTANT is a JSON object of `Instant`'s arguments; without it the model is the one of
the settings. STATE names a file that gets the names of the threads by their native ids, and for how
long the model ran by when, again and again.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import worker.__main__
from worker import logs, settings
from worker.classifier import BatchLimits
from worker.model.padded import PaddedRows, Types
from worker.model.prefix import PrefixTokenizer
from worker.model.tokenizer import load_tokenizer
from worker.service import serve

EMOTIONS = ("sadness", "joy", "love", "anger", "fear", "surprise")
MOST_TOKENS = 512
CHARACTERS_PER_TOKEN = 5
"""Without a tokenizer a text has a token for so many characters, and two more."""
SECONDS_BETWEEN = 0.2


class Instant:
    """Keeps the worker's ``Classifier`` protocol. Scores are rows of a table that is made once.

    Args:
        tokenizer: A directory with a tokenizer; without it, lengths alone are made up.
        labels: How many.
        seconds: What a batch takes, without the interpreter's lock: a simulated GPU, which runs one
            batch after the other, in the order in which they were launched.
        seconds_per_token: What each of its tokens takes, padding included.
        depth: Batches under way at once.
        abstains: Whether it has energies, and the worker abstains on half of the labels.
        max_records, max_tokens: The limits of a batch.
    """

    name = "instant"
    version = "0123456789ab"
    label_shares = None
    abstention = None
    gpu = None

    def __init__(
        self, *, tokenizer=None, labels=6, seconds=0.0, seconds_per_token=0.0, depth=1,
        max_records=256, max_tokens=8_192, abstains=False,
    ):  # fmt: skip
        self.labels = EMOTIONS if labels == len(EMOTIONS) else tuple(f"l{n}" for n in range(labels))
        self.limits = BatchLimits(max_records=max_records, max_tokens=max_tokens)
        self.depth = depth
        self.free_at = 0.0
        self.given = 0.0  # seconds of all batches launched so far
        self.seconds, self.seconds_per_token = seconds, seconds_per_token
        made = np.random.default_rng(0).dirichlet(np.ones(labels), size=max_records)
        self.table = made.astype(np.float32)
        if abstains:
            from worker.classifier import Abstention  # an older checkout has none

            self.abstention = Abstention(score=float(np.median(made.max(axis=1))), energy=0.0)
            energies = np.full((max_records, 1), -3.0, dtype=np.float32)
            self.table = np.hstack([self.table, energies])
        model = SimpleNamespace(
            path=Path(tokenizer or "."), max_length=MOST_TOKENS, vocabulary=30_522, pad_token_id=0
        )
        self.rows = PaddedRows(checkpoint=model, types=Types((0,), 0, (0,)))
        self.layout = self.rows.layout
        self.tokenizer = None
        if tokenizer:
            self.tokenizer = PrefixTokenizer(load_tokenizer(model), max_length=MOST_TOKENS)
        self.ids = [[9] * length for length in range(MOST_TOKENS + 1)]

    def tokenize(self, texts):
        if self.tokenizer is not None:
            return self.tokenizer.encode(texts)
        lengths = (min(len(text) // CHARACTERS_PER_TOKEN + 2, MOST_TOKENS) for text in texts)
        return [
            (self.ids[length if text else 0], False)
            for text, length in zip(texts, lengths, strict=True)
        ]

    def stage(self, rows):
        return self.rows.stage(rows).tensors

    def launch(self, staged):
        rows, longest = staged[0].shape
        took = self.seconds + self.seconds_per_token * rows * longest
        self.free_at = max(time.monotonic(), self.free_at) + took
        self.given += took
        return rows, self.free_at

    def scores(self, launched):
        rows, ends = launched
        left = ends - time.monotonic()
        if left > 0:
            time.sleep(left)
        return self.table[:rows]

    def warm_up(self, *, max_records, max_tokens):
        pass

    def memory(self):
        return {}


def tell(path, model=None):
    """Writes the state for ever."""
    while True:
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        now = time.monotonic()
        # Less what it has still to do.
        busy = model.given - max(0.0, model.free_at - now) if model else 0.0
        state = {"threads": names, "busy": busy, "at": now}
        path.with_suffix(".new").write_text(json.dumps(state))
        path.with_suffix(".new").rename(path)
        time.sleep(SECONDS_BETWEEN)


def main():
    path = Path(os.environ["STATE"])
    if "INSTANT" not in os.environ:
        threading.Thread(target=tell, args=(path,), name="state", daemon=True).start()
        return worker.__main__.main(["run", *sys.argv[1:]])
    arguments = json.loads(os.environ["INSTANT"])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    chosen = settings.load(sys.argv[1:])
    logs.configure(format=chosen.log.format, level=chosen.log.level)
    model = Instant(**arguments)
    threading.Thread(target=tell, args=(path, model), name="state", daemon=True).start()
    return serve(chosen, load=lambda: model)


if __name__ == "__main__":
    sys.exit(main())
