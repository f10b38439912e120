"""What is trained on beside a dataset: more labelled texts, and texts without a label.

They are no splits of the dataset: nothing is measured on them, and its shares of labels stay.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from train import tables
from train.columns import read
from train.copies import shared_rows
from train.dataset import Columns, Corpus, Split, texts_of
from train.errors import Refused
from train.labels import listed
from train.mixed import mixed
from train.printer import counted
from train.settings import RunSettings

PACKAGED = "packaged"
"""The value of an option that stands for the texts written for this project."""

_HERE = Path(__file__).resolve().parent
_SENTENCES = _HERE / "data" / "train.jsonl"
_OUTLIERS = _HERE / "outliers" / "outliers.jsonl"
_OWN = Columns()


def with_added(corpus: Corpus, settings: RunSettings, *, columns: Columns) -> Corpus:
    """Adds what `--augment`, `--outliers`, `--unlabelled` and `--mixed` name.

    Args:
        corpus: The dataset.
        settings: The user's.
        columns: Those of the dataset: a file of the user has the same.

    Raises:
        Refused: A file cannot be used, or has a label that the dataset does not have.
    """
    added = {}
    if settings.augment:
        added["augment"] = _augment(corpus, settings.augment, columns)
    if settings.outliers:
        added["outliers"] = _outliers(settings.outliers, columns)
    if settings.unlabelled:
        texts = texts_of(Path(settings.unlabelled).expanduser(), columns)
        added["unlabelled"] = Split(name="unlabelled", texts=texts, targets=None)
    if settings.mixed:
        texts = mixed(corpus.splits["train"].texts, each=settings.mixed)
        added["mixed"] = Split(name="mixed", texts=texts, targets=None)
    return dataclasses.replace(corpus, added=added, notes=(*corpus.notes, *_notes(added)))


def refuse_missing(settings: RunSettings) -> None:
    """Checks, before anything is read, that the files are there.

    Raises:
        Refused: One is not.
    """
    for option in ("augment", "outliers", "unlabelled"):
        value = getattr(settings, option)
        if value not in {"", PACKAGED} and not _is_file(value):
            raise Refused(f"--{option} {value}: no such file")


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError):  # a name too long, a directory without permission, ~nobody
        return False


def training_rows(corpus: Corpus) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """All texts that are trained on, and their labels as indices; None: of no label."""
    splits = [corpus.splits["train"], *corpus.added.values()]
    texts = tuple(text for split in splits for text in split.texts)
    targets: list[int | None] = []
    for split in splits:
        targets += split.targets if split.targets is not None else [None] * len(split)
    return texts, tuple(targets)


def counts_of(targets: Sequence[int | None], *, labels: int) -> tuple[int, ...]:
    """The number of texts with each label, in their order; texts of no label do not count."""
    found = Counter(targets)
    return tuple(found[label] for label in range(labels))


def _augment(corpus: Corpus, name: str, columns: Columns) -> Split:
    path, columns = (_SENTENCES, _OWN) if name == PACKAGED else (Path(name).expanduser(), columns)
    texts = texts_of(path, columns)
    found = tables.read_file(path)
    if any(columns.label not in table.columns for table in found):
        raise Refused(f"--augment {name}: has no labels; texts of no label are for --outliers")
    spellings = read(found, columns.label, where=path.name).spellings
    targets = []
    for row, spelling in enumerate(spellings, start=1):
        label = columns.names.get(spelling or "", spelling or "")
        if label not in corpus.labels:
            raise Refused(
                f"--augment {name}: row {row} has the label {label!r}; the dataset has"
                f" {listed(corpus.labels)}"
            )
        targets.append(corpus.labels.index(label))
    return Split(name="augment", texts=texts, targets=tuple(targets))


def _outliers(name: str, columns: Columns) -> Split:
    path, columns = (_OUTLIERS, _OWN) if name == PACKAGED else (Path(name).expanduser(), columns)
    texts = texts_of(path, columns)
    return Split(name="outliers", texts=texts, targets=None)


def _notes(added: Mapping[str, Split]) -> list[str]:
    """A line on each that was added."""
    ends = {
        "augment": "more texts are trained on",
        "outliers": "texts of no label are trained on",
        "unlabelled": "texts are learned as taught",
        "mixed": "texts are mixed from train and learned as taught",
    }
    return [f"--{option}: {len(split):,} {ends[option]}" for option, split in added.items()]


def doubts(corpus: Corpus) -> list[str]:
    """A line for each split of the dataset that shares texts with what was added."""
    found = []
    for option, split in corpus.added.items():
        for name, theirs in corpus.splits.items():
            if name == "train" and option in ("unlabelled", "mixed"):
                continue  # they are taught anyway
            if rows := shared_rows(theirs, split):
                ends = (
                    "they are trained on twice"
                    if name == "train"
                    else f"the metrics on {name} are not of new texts alone"
                )
                found.append(
                    f"--{option}: {counted(rows, 'row')} of {name} with a text that it has too:"
                    f" {ends}"
                )
    return found
