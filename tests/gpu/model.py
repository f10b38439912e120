"""The model stage alone: rates over shapes, texts, and token budgets; beside the card's own peak.

Batches are those that the worker's batcher makes of a backlog. They are staged beforehand, and
launched as the classify thread does, `depth` of them under way: what is measured is the device.
Floating-point operations are those of the real tokens; padding counts as nothing done.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.gpu.place import SHAPES, Place, card, stage, synchronized
from worker.batch import Batcher
from worker.layout import Layout
from worker.model.classifier import TorchClassifier
from worker.model.load import load
from worker.records import Document, Encoded, Lease, Record
from worker.waiting import Budget

BUDGETS = (4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
"""Tokens of a batch, padding included."""
MOST_ROWS = 32_768
LARGE_BUDGET = 65_536
"""From it on there are more texts, so that several batches are full."""
LARGE_ROWS = 4_000
SECONDS = 0.4
"""Of each measurement, at least."""
LONE = 50
"""Messages that come alone."""
JUDGED = 512
"""Tweets whose scores are compared with float32's, beside a hundred skewed texts."""
PEAK_SIDE = 8_192
"""Rows and columns of the matrices whose product is the card's peak."""


def measure(place: Place) -> dict[str, Any]:
    """All rows, and the peak of this run."""
    found: dict[str, Any] = {"card": card(place.device), "peak_tflops": peak(place), "rows": []}
    found |= {"lone_ms": {}, "apart": {}}
    for name in place.shapes:
        path, texts = place.checkpoint(name), {"tweets": place.texts(), "skewed": place.skewed()}
        exact = load(path=path, device=place.device, dtype="float32", rows="padded")
        tokens = {kind: [ids for ids, _ in exact.tokenize(each)] for kind, each in texts.items()}
        judged = tokens["tweets"][:JUDGED] + tokens["skewed"][:100]
        expected = scores(exact, judged)
        del exact
        for way, make in ways(name, place).items():
            if place.over:
                break
            about = {"shape": name, "way": way}
            try:
                one = make(path, place.device)
                about["dtype"] = one.precision.name + ", throughout" * one.precision.throughout
                found["lone_ms"][f"{name}, {way}"] = lone(one, place)
                found["apart"][f"{name}, {way}"] = apart(scores(one, judged), expected)
            except Exception as error:  # noqa: BLE001 - the other rows are of use
                found["rows"].append(about | {"error": place.excused(error)})
                continue
            for kind, rows in tokens.items():
                for budget in BUDGETS[:2] if place.tiny else BUDGETS:
                    if place.over:
                        break
                    row = about | {"texts": kind, "budget": budget}
                    try:
                        row |= speed(one, enough(rows, budget, name), budget, name, place)
                    except Exception as error:  # noqa: BLE001 - likewise
                        row["error"] = place.excused(error)
                    found["rows"].append(row)
                    place.keep(found)
            del one
        if place.device == "cuda":
            torch.cuda.empty_cache()
    return found


class Compiled(TorchClassifier):
    """A classifier that was loaded, with its network compiled."""

    def __init__(self, classifier: TorchClassifier) -> None:
        self.__dict__.update(classifier.__dict__)
        # The compiler counts its graphs by the code that it compiles, whichever network it is of.
        torch.compiler.reset()
        self.network = torch.compile(classifier.network, dynamic=True)


Make = Callable[[Path, str], TorchClassifier]


def loaded(rows: str, dtype: str = "auto", *, cudnn: bool = False, compiled: bool = False) -> Make:
    """Loads a classifier; `cudnn` lets its padded rows have cuDNN's attention."""

    def make(path: Path, device: str) -> TorchClassifier:
        found = load(path=path, device=device, dtype=dtype, rows=rows)
        torch.backends.cuda.enable_cudnn_sdp(enabled=cudnn)
        return Compiled(found) if compiled else found

    return make


def ways(name: str, place: Place) -> dict[str, Make]:
    """The ways through one network, by name."""
    found = {"padded": loaded("padded"), "packed": loaded("packed")}
    if place.device == "cuda":
        found["packed, bfloat16 products"] = loaded("packed", "bfloat16")
        found["padded, cuDNN"] = loaded("padded", cudnn=True)
        if name == "bert-base":
            found["padded, compiled"] = loaded("padded", compiled=True)
    return found


def enough(rows: list[Sequence[int]], budget: int, name: str) -> list[Sequence[int]]:
    """As many rows as fill several batches, and no more than a large network does in a second."""
    if name == "bert-large":
        return rows[:LARGE_ROWS] if budget < LARGE_BUDGET else rows
    return rows if budget < LARGE_BUDGET else rows * 4


def through(classifier: TorchClassifier, staged: Sequence[Any]) -> None:
    """Runs staged batches as the classify thread does."""
    under_way: deque[Any] = deque()
    for one in staged:
        under_way.append(classifier.launch(one))
        if len(under_way) >= classifier.depth:
            classifier.scores(under_way.popleft())
    while under_way:
        classifier.scores(under_way.popleft())


def speed(
    classifier: TorchClassifier,
    rows: list[Sequence[int]],
    budget: int,
    name: str,
    place: Place,
) -> dict[str, float]:
    """Of one way with one budget."""
    batches = batched(rows, budget, classifier.layout)
    staged = [classifier.stage(batch) for batch in batches]
    padded = sum(one.tensors[0].numel() for one in staged)
    if place.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    synchronized(place.device)
    begin = time.perf_counter()
    through(classifier, staged)  # the first time of a shape takes longer
    first = time.perf_counter() - begin
    turns: list[float] = []
    while sum(turns) < (0.0 if place.tiny else SECONDS) or not turns:
        synchronized(place.device)
        begin = time.perf_counter()
        through(classifier, staged)
        turns.append(time.perf_counter() - begin)
    took = statistics.median(turns)
    tokens = sum(map(len, rows))
    return {
        "messages_per_s": len(rows) / took,
        "tokens_per_s": tokens / took,
        "tflops": sum(operations(name, len(row)) for row in rows) / took / 1e12,
        "padding": padded / tokens,
        "batch_tokens": padded / len(batches),
        "batch_ms": took / len(batches) * 1_000,
        "first_ms": first / len(batches) * 1_000,
        "memory_mb": torch.cuda.max_memory_allocated() / 1e6 if place.device == "cuda" else 0.0,
    }


def batched(rows: list[Sequence[int]], tokens: int, layout: Layout) -> list[list[Sequence[int]]]:
    """Rows as the worker's batcher puts them together while a backlog of all of them waits."""
    batcher = Batcher(
        budget=Budget(max_records=MOST_ROWS, max_tokens=tokens, max_wait=0.0, layout=layout)
    )
    lease = Lease(0, 0)
    batcher.add(
        (
            Encoded(Document(Record("", lease, at, 0, None, b"", (), 0.0), "", None), ids, False)
            for at, ids in enumerate(rows)
        ),
        0.0,
    )
    found = []
    while len(batcher):
        found.append([item.tokens for item in batcher.take("drain").items])
    return found


def scores(classifier: TorchClassifier, rows: list[Sequence[int]]) -> np.ndarray:
    """Probabilities of rows in batches of mixed lengths; float32, shape (rows, labels)."""
    parts = [classifier.run(rows[at : at + 64]) for at in range(0, len(rows), 64)]
    found: np.ndarray = np.concatenate(parts)
    return found


def apart(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """How far scores are from float32's, and the share of labels that are the same."""
    return {
        "score": float(np.abs(found - expected).max()),
        "labels": float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }


def operations(name: str, length: int) -> float:
    """Floating-point operations for a text of so many tokens; embeddings and norms are left out."""
    layers, width, _, inner = SHAPES[name]
    products = 2 * length * (4 * width * width + 2 * width * inner)
    attention = 2 * 2 * length * length * width
    return float(layers * (products + attention))


def lone(classifier: TorchClassifier, place: Place) -> float:
    """Milliseconds for one message that comes alone: staging, model and reading; the median."""
    rows = [ids for ids, _ in classifier.tokenize(place.texts()[:LONE])]
    found = []
    classifier.run(rows[:1])  # warm
    for row in rows[: 5 if place.tiny else LONE]:
        begin = time.perf_counter()
        classifier.run([row])
        found.append((time.perf_counter() - begin) * 1_000)
    return statistics.median(found)


def peak(place: Place) -> float:
    """TFLOP/s of one large product of random matrices, in 16 bit on CUDA."""
    side = 512 if place.tiny else PEAK_SIDE if place.device == "cuda" else 2_048
    dtype = torch.float16 if place.device == "cuda" else torch.float32
    left, right = (torch.randn(side, side, dtype=dtype, device=place.device) for _ in range(2))
    turns = []
    for _ in range(13):
        synchronized(place.device)
        begin = time.perf_counter()
        torch.matmul(left, right)
        synchronized(place.device)
        turns.append(time.perf_counter() - begin)
    return float(2 * side**3 / statistics.median(turns[3:]) / 1e12)


if __name__ == "__main__":
    stage(measure)
