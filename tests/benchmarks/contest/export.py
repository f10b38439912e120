"""Exports a checkpoint to ONNX and chooses its precision: the fastest that passes the score gate.

    python -m tests.benchmarks.contest.export CHECKPOINT DIRECTORY TEXTS

Writes `DIRECTORY/float32.onnx`, an int8 model for each recipe, and `DIRECTORY/choice.json`: which
one was chosen, and each one's agreement with float32 and texts/s. Runs in the contest's own
environment.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModelForSequenceClassification

from tests.benchmarks import circumstances
from tests.benchmarks.contest import reference
from tests.benchmarks.contest.onnx_sorted import Classifier

MARGIN = 0.005
"""Above the gate: int8's scale depends on what else is in a batch, so other batches agree less."""
ROUNDS = 3

RECIPES: dict[str, dict[str, Any]] = {
    "int8": {},
    "int8 by channel": {"per_channel": True},
    "int8 by channel, products only": {"per_channel": True, "op_types_to_quantize": ["MatMul"]},
    "int8 by channel, products only, without the down projections": {
        "per_channel": True,
        "op_types_to_quantize": ["MatMul"],
        "without": "/output/dense/MatMul",
        "but": "/attention/output/",
    },
}
"""Of dynamic quantization, weights in signed 8 bits. "Products only" keeps embeddings, pooler and
head in float32. The down projections multiply the activations with the widest range: one scale for
a whole tensor costs most there."""


class Logits(torch.nn.Module):
    """A model's logits alone, by the two inputs that matter."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def export(checkpoint: Path, path: Path) -> None:
    """The checkpoint in float32, with free batch size and length.

    By TorchScript: what torch 2.15's newer exporter (`dynamo=True`) makes of this model gives
    other labels, and its nodes do not have the modules' names, which the recipes go by.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, dtype="float32", attn_implementation="eager"
    ).eval()
    ids = torch.ones(2, 8, dtype=torch.int64)
    mask = ids.clone()
    mask[1, 4:] = 0
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(
        Logits(model), (ids, mask), str(path), input_names=["input_ids", "attention_mask"],
        output_names=["logits"], opset_version=17, dynamo=False,
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
    )  # fmt: skip


def quantize(source: Path, path: Path, recipe: dict[str, Any]) -> None:
    options = dict(recipe)
    without, but = options.pop("without", None), options.pop("but", "")
    names = [node.name for node in onnx.load(str(source)).graph.node]
    excluded = [name for name in names if without and without in name and but not in name]
    quantize_dynamic(
        source, path, weight_type=QuantType.QInt8, nodes_to_exclude=excluded, **options
    )


def speed(classify: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Texts/s, the best of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        classify(texts)
        seconds.append(time.perf_counter() - began)
    return len(texts) / min(seconds)


def choose(found: dict[str, dict[str, float]]) -> str:
    """The fastest of those that pass the gate with a margin."""
    least = reference.GATE + MARGIN
    passed = [name for name, each in found.items() if each["agreement"] >= least]
    return max(passed, key=lambda name: found[name]["texts_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("texts", type=Path, help="JSON Lines with `text`")
    asked = parser.parse_args()
    asked.directory.mkdir(parents=True, exist_ok=True)
    texts = circumstances.read_texts(asked.texts)
    expected = reference.labels(asked.checkpoint, texts)
    float32 = asked.directory / "float32.onnx"
    export(asked.checkpoint, float32)
    models = {"float32": float32}
    for number, (name, recipe) in enumerate(RECIPES.items()):
        models[name] = asked.directory / f"int8-{number}.onnx"
        quantize(float32, models[name], recipe)
    found: dict[str, dict[str, float]] = {}
    for name, path in models.items():
        classify = Classifier(str(asked.checkpoint), str(path))
        labels = [label for label, _ in classify(texts)]
        found[name] = {
            "agreement": reference.agreement(labels, expected),
            "texts_per_second": speed(classify, texts[:512]),
        }
    chosen = choose(found)
    choice = {"precision": chosen, "model": models[chosen].name, "tried": found}
    (asked.directory / "choice.json").write_text(json.dumps(choice, indent=1))


if __name__ == "__main__":
    main()
