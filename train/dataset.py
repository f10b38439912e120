"""A dataset as texts and labels, with every row checked."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train import labels as label_columns
from train.errors import Refused
from train.labels import kind_of
from train.tables import file_format, read_file, read_splits


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of the columns that are read."""

    text: str = "text"
    label: str = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rows of one split, in their order."""

    name: str
    texts: tuple[str, ...]
    targets: tuple[int, ...] | None
    """Each text's index into the labels; None where the split has no labels."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The splits that a run trains and is measured on."""

    name: str
    """As the user wrote it."""
    labels: tuple[str, ...]
    labels_made_up: bool
    """Whether the dataset names no labels, so that they are `LABEL_0`, `LABEL_1` ..."""
    splits: Mapping[str, Split]

    def counts(self, split: str) -> tuple[int, ...]:
        """The number of rows with each label, in the order of `labels`."""
        found = Counter(self.splits[split].targets)
        return tuple(found[i] for i in range(len(self.labels)))

    def fingerprint(self) -> str:
        """16 hexadecimal digits of SHA-256 over every split's texts and label names, in order."""
        digest = hashlib.sha256()
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(f"{name} {len(split)}\n".encode())
            for i, text in enumerate(split.texts):
                label = None if split.targets is None else self.labels[split.targets[i]]
                digest.update(json.dumps([text, label]).encode())
        return digest.hexdigest()[:16]


def load_for_training(name: str, *, columns: Columns) -> Corpus:
    """Reads the splits `train`, `validation` and, if there is one, `test`.

    Args:
        name: Name on the hub, or a directory.
        columns: The columns to read.

    Raises:
        Refused: The dataset is missing or unreadable, lacks a split or a column, or has an empty
            split, an empty text, or a label that `train` does not have.
    """
    if Path(name).is_file():
        raise Refused(f"{name} is a file: training takes a directory with train and validation")
    tables = read_splits(name)
    for needed in ("train", "validation"):
        if needed not in tables:
            raise Refused(f"{name}: has no split {needed}; it has {_listed(tables)}")
    used: dict[str, Any] = {
        split: tables[split] for split in ("train", "validation", "test") if split in tables
    }
    texts = {split: _texts(table, columns, where=split) for split, table in used.items()}
    values = {split: _values(table, columns, where=split) for split, table in used.items()}
    declared = label_columns.class_names(used["train"].features[columns.label])
    names, made_up = (declared, False) if declared else label_columns.names_from(values)
    targets = {
        split: label_columns.indices(column, labels=names, declared=declared, where=split)
        for split, column in values.items()
    }
    for needed in ("train", "validation"):
        if targets[needed] is None:
            raise Refused(f"{name}: the split {needed} has no labels")
    if len(names) < 2:  # noqa: PLR2004 - with one label there is no choice
        raise Refused(f"{name}: has only one label ({_listed(names)}); a classifier needs two")
    return Corpus(
        name=name,
        labels=names,
        labels_made_up=made_up,
        splits={
            split: Split(name=split, texts=texts[split], targets=targets[split]) for split in used
        },
    )


def load_for_evaluation(
    name: str, *, split: str | None, columns: Columns, labels: Sequence[str]
) -> Split:
    """Reads one split of a dataset, or one file.

    Args:
        name: Name on the hub, a directory, or a file.
        split: The split to read; None: `test` if there is one, else `validation`. A file is one
            split by itself.
        columns: The columns to read; there may be no column of labels.
        labels: The checkpoint's: the targets index them.

    Raises:
        Refused: As for training.
    """
    if Path(name).is_file() or file_format(Path(name)):
        table, where = read_file(Path(name)), Path(name).name
    else:
        tables = read_splits(name)
        chosen = split or next((s for s in ("test", "validation") if s in tables), None)
        if chosen is None:
            raise Refused(
                f"{name}: has no split test or validation; choose one of {_listed(tables)} with"
                " --split"
            )
        if chosen not in tables:
            raise Refused(f"{name}: has no split {chosen}; it has {_listed(tables)}")
        table, where = tables[chosen], chosen
    texts = _texts(table, columns, where=where)
    targets = None
    if columns.label in table.column_names:
        targets = label_columns.indices(
            _values(table, columns, where=where),
            labels=labels,
            declared=label_columns.class_names(table.features[columns.label]),
            where=where,
        )
    return Split(name=where, texts=texts, targets=targets)


def check_text(text: object, *, at: str) -> str:
    """Returns a text that a classifier can label.

    Args:
        text: A value of the column of texts.
        at: The row, for the message.

    Raises:
        Refused: It is no text, only white space, or cannot be written as UTF-8.
    """
    if not isinstance(text, str):
        what = "the text is missing" if text is None else f"expected a text, found {kind_of(text)}"
        raise Refused(f"{at}: {what}")
    if not text.strip():
        raise Refused(f"{at}: the text is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{at}: the text is not valid Unicode") from error
    return text


def _texts(table: Any, columns: Columns, *, where: str) -> tuple[str, ...]:
    if len(table) == 0:
        raise Refused(f"{where}: has no rows")
    values = _column(table, columns.text, where=where, option="--text-column")
    return tuple(
        check_text(value, at=f"{where}, row {row}") for row, value in enumerate(values, start=1)
    )


def _values(table: Any, columns: Columns, *, where: str) -> list[Any]:
    return _column(table, columns.label, where=where, option="--label-column")


def _column(table: Any, name: str, *, where: str, option: str) -> list[Any]:
    if name not in table.column_names:
        there = _listed(table.column_names)
        raise Refused(f"{where}: has no column {name!r}; it has {there} (choose one with {option})")
    try:
        return list(table[name][:])
    except UnicodeDecodeError as error:
        raise Refused(f"{where}: column {name!r} is not UTF-8 throughout") from error


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
