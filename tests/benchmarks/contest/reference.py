"""The float32 labels that every contestant is measured against, and the score gate."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.benchmarks.contest.job import BATCH, MAX_LENGTH

GATE = 0.97
"""Share of labels that a contestant must have in common with float32 to be in the contest."""


def agreement(labels: Sequence[str], reference: Sequence[str]) -> float:
    """The share of equal labels."""
    same = sum(one == other for one, other in zip(labels, reference, strict=True))
    return same / len(reference)


def labels(checkpoint: Path, texts: Sequence[str]) -> list[str]:
    """Labels by plain `transformers` in float32."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype="float32").eval()
    found: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            tokens = tokenizer(
                list(texts[start : start + BATCH]), padding=True, truncation=True,
                max_length=MAX_LENGTH, return_tensors="pt",
            )  # fmt: skip
            best = model(**tokens).logits.argmax(dim=-1).tolist()
            found += [model.config.id2label[number] for number in best]
    return found
