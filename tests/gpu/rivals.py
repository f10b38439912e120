"""What users would pick, in the same run: `transformers.pipeline` with batches of 64 in 16 bit, as
it comes and compiled, beside the worker's tokenizer and model on one thread."""

import time
from typing import Any

import torch

from tests.gpu.model import batched
from tests.gpu.place import Place, card, stage, synchronized
from worker.model.load import load

BATCH = 64
ROUNDS = 2


def measure(place: Place) -> dict[str, Any]:
    """Messages/s of each way and shape, round by round, in turns."""
    rates: dict[str, dict[str, list[float]]] = {}
    errors: dict[str, str] = {}
    texts = place.texts()[: 64 if place.tiny else 4_096]
    found = {"card": card(place.device), "messages": len(texts), "rates": rates, "errors": errors}
    for name in place.shapes:
        ways = {
            "worker's model": ours(place, name),
            "pipeline, batches of 64": pipeline(place, name),
        }
        if place.device == "cuda":
            ways["pipeline, batches of 64, compiled"] = pipeline(place, name, compiled=True)
        for way, run in list(ways.items()):
            try:
                run(texts)  # warm
            except Exception as error:  # noqa: BLE001 - the other ways are of use
                errors[f"{name}, {way}"] = place.excused(error)
                del ways[way]
        for _ in range(1 if place.tiny else ROUNDS):
            for way, run in ways.items():
                synchronized(place.device)
                begin = time.perf_counter()
                run(texts)
                rate = len(texts) / (time.perf_counter() - begin)
                rates.setdefault(name, {}).setdefault(way, []).append(rate)
                print(name, way, round(rate), flush=True)
            place.keep(found)
            if place.over:
                return found
    return found


def ours(place: Place, name: str) -> Any:
    """Tokenizer, batcher and model, one after the other: the worker has them on threads."""
    classifier = load(
        path=place.checkpoint(name), device=place.device, dtype="auto", max_seconds=0.25
    )

    def run(texts: list[str]) -> None:
        rows = [ids for ids, _ in classifier.tokenize(texts)]
        for batch in batched(rows, classifier.limits.max_tokens, classifier.layout):
            classifier.run(batch)

    return run


def pipeline(place: Place, name: str, *, compiled: bool = False) -> Any:
    """The library's own way to label many texts."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    pipe = transformers.pipeline(
        "text-classification", model=str(place.checkpoint(name)), device=place.device,
        dtype=torch.float16 if place.device == "cuda" else torch.float32,
    )  # fmt: skip
    if compiled:
        torch.compiler.reset()
        pipe.model = torch.compile(pipe.model, dynamic=True)

    def run(texts: list[str]) -> None:
        pipe(texts, batch_size=BATCH, top_k=None)

    return run


if __name__ == "__main__":
    stage(measure)
