"""What was read of a dataset: files and rows, and what in them is seldom meant."""

import filecmp
import re
from collections.abc import Iterable, Sequence
from itertools import combinations

from train.dataset import Corpus, Part, Split
from train.labels import alike
from train.printer import counted

_NUMBERS = re.compile(r"[0-9]+")
_COMPARED = 50
"""Files that are compared with each other. A dataset of more is made by a program."""


def files(splits: Iterable[Split]) -> list[tuple[str, str, int]]:
    """Split, file and number of rows of every file; nothing for a dataset of the hub."""
    return [
        (split.name, part.file, part.rows)
        for split in splits
        for part in split.parts
        if part.path is not None
    ]


def doubts(splits: Sequence[Split]) -> list[str]:
    """A line for each thing that is seldom meant: rows that count twice, swallowed or mixed up."""
    parts = [(split.name, part) for split in splits for part in split.parts if part.path]
    return [
        *_same(parts),
        *(line for split in splits for line in _several(split)),
        *(line for _, part in parts for line in _spread(part)),
    ]


def doubts_of_labels(corpus: Corpus) -> list[str]:
    """A line for labels that nobody named, that train lacks, or that differ in case only."""
    lines = []
    if corpus.labels_made_up:
        lines.append(
            f"the dataset has no label names, so they are {_some(corpus.labels)}: name them with"
            " --labels, or in its README.md (dataset_info)"
        )
    missing = [
        label
        for label, count in zip(corpus.labels, corpus.counts("train"), strict=True)
        if not count
    ]
    if missing:
        lines.append(f"train has no row with the label {_some(missing)}: no text will get it")
    lines += [
        f"labels {_some(group)} differ in upper and lower case only, and are as many labels"
        for group in alike(corpus.labels)
    ]
    return lines


def _same(parts: Sequence[tuple[str, Part]]) -> list[str]:
    return [
        f"{two.file} ({there}) is a copy of {one.file} ({here}): its rows count twice"
        for (here, one), (there, two) in combinations(parts[:_COMPARED], 2)
        if one.path and two.path and filecmp.cmp(one.path, two.path, shallow=False)
    ]


def _several(split: Split) -> list[str]:
    """Files of one split that are no numbered parts of it, such as `train (1).jsonl`."""
    kinds = {_NUMBERS.sub("0", part.file) for part in split.parts}
    if len(kinds) < 2:  # noqa: PLR2004 - one file, or numbered ones
        return []
    names = [part.file for part in split.parts]
    return [f"{split.name} is read from {len(names)} files, {_some(names)}: is each a part of it?"]


def _spread(part: Part) -> list[str]:
    if not part.spread:
        return []
    row, first, last = max(part.spread, key=lambda each: each[2] - each[1])
    texts = counted(len(part.spread), "text")
    line = (
        f"{part.file}: {texts} with line breaks, the longest in row {row:,} (lines {first:,} to"
        f" {last:,}): a quote that is not closed makes one of many rows"
    )
    return [line]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if names[3:] else "")
