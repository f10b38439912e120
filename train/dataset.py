"""A dataset as texts and labels, with every row checked."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from train import labels as label_columns
from train import targets as checkpoint_labels
from train.columns import (
    indices,
    lacking,
    named,
    read,
    refuse_missing,
    refuse_unmet,
    values,
)
from train.errors import Refused
from train.labels import kind_of, listed
from train.tables import Tables, is_file, read_file, read_splits


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What is read of a dataset."""

    text: str = "text"
    """Name of the column with the texts."""
    label: str = "label"
    """Name of the column with the labels."""
    config: str = ""
    """The dataset's configuration; empty: its only or its default one."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of labels, by value or by another name: `--labels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file that rows of a split come from."""

    file: str
    """Its path below the dataset's directory; empty for the hub."""
    path: Path | None
    """Where it lies; None for the hub."""
    rows: int
    spread: tuple[tuple[int, int, int], ...] = ()
    """Row, first and last line of each record of csv that spans several lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rows of one split, in their order."""

    name: str
    texts: tuple[str, ...]
    targets: tuple[int, ...] | None
    """Each text's index into the labels; None where the split has no labels."""
    parts: tuple[Part, ...] = ()
    """The files that it was read from, in the order of their rows."""
    notes: tuple[str, ...] = ()
    """What was assumed of its labels, one line each."""

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, rows: Sequence[int]) -> Self:
        """The same split with some of its rows, in the order given; rows are counted from 0."""
        return dataclasses.replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            targets=None if self.targets is None else tuple(self.targets[row] for row in rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The splits that a run trains and is measured on."""

    name: str
    """As the user wrote it."""
    labels: tuple[str, ...]
    labels_made_up: bool
    """Whether the dataset names no labels, so that they are `LABEL_0`, `LABEL_1` ..."""
    splits: Mapping[str, Split]
    added: Mapping[str, Split] = field(default_factory=dict)
    """What is trained on beside `train`: `augment` with labels, `outliers` and `unlabelled`
    without."""
    validation_made: bool = False
    """Whether `validation` was taken from `train`."""
    notes: tuple[str, ...] = ()
    """What is not read of it, and what was changed of its rows, a line each."""

    def counts(self, split: str) -> tuple[int, ...]:
        """The number of rows with each label, in the order of `labels`."""
        found = Counter(self.splits[split].targets)
        return tuple(found[i] for i in range(len(self.labels)))

    def fingerprint(self) -> str:
        """16 hexadecimal digits of SHA-256 over the texts and label names of all that is held."""
        digest = hashlib.sha256()
        every = {**self.splits, **self.added}
        for name in sorted(every):
            split = every[name]
            digest.update(f"{name} {len(split)}\n".encode())
            for i, text in enumerate(split.texts):
                label = None if split.targets is None else self.labels[split.targets[i]]
                digest.update(json.dumps([text, label]).encode())
        return digest.hexdigest()[:16]


def load_for_training(name: str, *, columns: Columns) -> Corpus:
    """Reads the split `train` and, where the dataset has them, `validation` and `test`.

    Args:
        name: Name on the hub, or a directory.
        columns: What to read.

    Raises:
        Refused: The dataset is missing or unreadable, lacks `train` or a column, or has an empty
            split, an empty text, a blank label, a label that `train` does not have, or only one.
    """
    if Path(name).is_file():
        raise Refused(f"{name} is a file: training takes a directory with the split train")
    found = read_splits(name, config=columns.config)
    if "train" not in found:
        raise Refused(f"{name}: has no split train; it has {listed(list(found))}")
    used: dict[str, Tables] = {
        split: found[split] for split in ("train", "validation", "test") if split in found
    }
    unused = [split for split in found if split not in used]
    for split, tables in used.items():
        refuse_missing(tables, text=columns.text, label=columns.label, where=split, needed=True)
    texts = {split: _texts(tables, columns, where=split) for split, tables in used.items()}
    given = {split: read(tables, columns.label, where=split) for split, tables in used.items()}
    train = given["train"]
    for needed in ("train", "validation"):
        if needed in given and label_columns.none_given(given[needed].spellings, known=train.known):
            raise Refused(f"{name}: the split {needed} has no labels")
    label_columns.refuse_blank(train.spellings, train.values, where="train")
    label_columns.refuse_mixed(train.values, where="train")
    names, made_up = named(train, columns.names, column=columns.label)
    labels = tuple(dict.fromkeys(names.values()))
    refuse_unmet(columns.names, given, labels)
    targets = {
        split: indices(column, names, labels, where=split) for split, column in given.items()
    }
    occur = sorted(set(targets["train"] or ()))
    if len(occur) < 2:  # noqa: PLR2004 - with one label there is no choice
        only = listed([labels[i] for i in occur])
        raise Refused(f"{name}: has only one label ({only}) in train; a classifier needs two")
    return Corpus(
        name=name,
        labels=labels,
        labels_made_up=made_up,
        splits={
            split: Split(
                name=split, texts=texts[split], targets=targets[split], parts=_parts(tables)
            )
            for split, tables in used.items()
        },
        notes=(f"splits that are not read: {listed(unused)}",) if unused else (),
    )


def load_for_evaluation(
    name: str, *, split: str | None, columns: Columns, labels: tuple[str, ...]
) -> Split:
    """Reads one split of a dataset, or one file.

    Args:
        name: Name on the hub, a directory, or a file.
        split: The split to read; None: `test` if there is one, else `validation`. A file is one
            split by itself.
        columns: What to read; there may be no column of labels.
        labels: The checkpoint's: the targets index them.

    Raises:
        Refused: As for training.
    """
    if is_file(name):
        path = Path(name).expanduser()
        found, where = read_file(path), path.name
    else:
        splits = read_splits(name, config=columns.config)
        chosen = split or next((s for s in ("test", "validation") if s in splits), None)
        if chosen is None:
            raise Refused(
                f"{name}: has no split test or validation; choose one of {listed(list(splits))}"
                " with --split"
            )
        if chosen not in splits:
            raise Refused(f"{name}: has no split {chosen}; it has {listed(list(splits))}")
        found, where = splits[chosen], chosen
    refuse_missing(found, text=columns.text, label=columns.label, where=where, needed=False)
    texts = _texts(found, columns, where=where)
    targets = None
    without = [table for table in found if columns.label not in table.columns]
    # Files of nothing but texts need no advice.
    some = len(without) < len(found)
    notes = [
        f"{f'{where}, {table.file}' if some else where}:"
        f" {lacking(table, {'--label-column': columns.label})}"
        for table in without[:1]
        if some or len(table.columns) > 1
    ]
    if not without:
        column = read(found, columns.label, where=where)
        if not label_columns.none_given(column.spellings, known=labels):
            label_columns.refuse_blank(column.spellings, column.values, where=where)
            names, notes = checkpoint_labels.names(
                column.spellings, declared=column.declared, given=columns.names, answers=labels
            )
            targets = label_columns.indices(
                column.spellings,
                names=names,
                classes=labels,
                where=where,
                way="; say what it is with --labels, such as {pair}",
            )
    return Split(name=where, texts=texts, targets=targets, parts=_parts(found), notes=tuple(notes))


def texts_of(path: Path, columns: Columns) -> tuple[str, ...]:
    """The texts of a file; it may have labels, which are not read.

    Raises:
        Refused: It cannot be read, has no column of texts, or a row without one.
    """
    found = read_file(path)
    refuse_missing(found, text=columns.text, label=columns.label, where=path.name, needed=False)
    return _texts(found, columns, where=path.name)


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


def _parts(tables: Tables) -> tuple[Part, ...]:
    return tuple(
        Part(file=table.file, path=table.path, rows=table.rows, spread=table.spread)
        for table in tables
    )


def _texts(tables: Tables, columns: Columns, *, where: str) -> tuple[str, ...]:
    if sum(table.rows for table in tables) == 0:
        raise Refused(f"{where}: has no rows")
    found = values(tables, columns.text, where=where)
    return tuple(
        check_text(value, at=f"{where}, row {row}") for row, value in enumerate(found, start=1)
    )
