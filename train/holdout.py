"""A split `validation` for a dataset that has none: rows of `train`, held out of the training."""

import dataclasses
import random
from collections.abc import Sequence

from train.copies import rows_by_text
from train.dataset import Corpus
from train.errors import Refused
from train.labels import listed

ONE_OF = 10
"""One of so many rows is held out. Twice as many would cost the training twice the rows; half as
many make the metrics, by which the best epoch is chosen, less sure."""
MOST = 10_000
"""Rows to hold out at most. The standard error of an accuracy of 0.9 on so many is 0.003."""


def with_validation(corpus: Corpus, *, seed: int) -> Corpus:
    """Takes rows of `train` for a split `validation`.

    Each label has its share of them, and at least one text on either side. Rows with the same text
    stay together, so that a label may have somewhat fewer or more.

    Args:
        corpus: Without the split.
        seed: The rows are drawn from it: the same seed takes the same rows.

    Raises:
        Refused: A label has fewer than two texts.
    """
    train, counts = corpus.splits["train"], corpus.counts("train")
    texts = _texts_by_label(corpus, counts)
    few = [
        label
        for label, count, own in zip(corpus.labels, counts, texts, strict=True)
        if count and len(own) < 2  # noqa: PLR2004 - one for either side
    ]
    if few:
        raise Refused(
            f"{corpus.name}: has no split validation, and too few texts to take one from train: add"
            f" two different texts of each label, or a split validation; too few of {listed(few)}"
        )
    source = random.Random(seed)  # noqa: S311 - no secret
    total = min(MOST, len(train) // ONE_OF)
    taken = {
        row
        for count, own in zip(counts, texts, strict=True)
        if own
        for row in _drawn(own, max(1, total * count // len(train)), source)
    }
    note = (
        f"no split validation: {len(taken):,} of the {len(train):,} rows of train are taken for it"
        f" (stratified, seed {seed})"
    )
    held_out = dataclasses.replace(train.only(sorted(taken)), name="validation", parts=())
    kept = train.only([row for row in range(len(train)) if row not in taken])
    others = {name: split for name, split in corpus.splits.items() if name != "train"}
    return dataclasses.replace(
        corpus,
        splits={"train": kept, "validation": held_out, **others},
        validation_made=True,
        notes=(*corpus.notes, note),
    )


def _texts_by_label(corpus: Corpus, counts: Sequence[int]) -> list[list[list[int]]]:
    """For each label the rows of each of its texts.

    A text with several labels counts as one of the rarest, which has the fewest others.
    """
    train = corpus.splits["train"]
    targets = train.targets or ()
    found: list[list[list[int]]] = [[] for _ in corpus.labels]
    for rows in rows_by_text(train.texts).values():
        rarest = min((targets[row] for row in rows), key=lambda label: (counts[label], label))
        found[rarest].append(rows)
    return found


def _drawn(texts: list[list[int]], wanted: int, source: random.Random) -> list[int]:
    """Rows of texts drawn at random: as many as are wanted or fewer, but of one text at least."""
    source.shuffle(texts)
    rows: list[int] = []
    for same in texts:
        if len(rows) + len(same) <= wanted:
            rows += same
    return rows or min(texts, key=len)
