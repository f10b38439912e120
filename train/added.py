"""What is trained on beside a dataset: more labelled texts, and texts without a label.

They are no splits of the dataset: nothing is measured on them, and its shares of labels stay.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.copies import shared_rows
from train.dataset import Columns, Corpus, Split, load_for_evaluation, texts_of
from train.errors import Refused
from train.labels import listed
from train.printer import counted
from train.settings import RunSettings

PACKAGED = "packaged"
"""The value of an option that stands for the texts written for this project."""

_HERE = Path(__file__).resolve().parent
_SENTENCES = _HERE / "data" / "train.jsonl"
_OUTLIERS = _HERE / "outliers" / "outliers.jsonl"
_OWN = Columns()


def with_added(corpus: Corpus, settings: RunSettings, *, columns: Columns) -> Corpus:
    """Adds what `--augment` and `--outliers` name.

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
    return dataclasses.replace(corpus, added=added, notes=(*corpus.notes, *_notes(corpus, added)))


def refuse_missing(settings: RunSettings) -> None:
    """Checks, before anything is read, that the files are there.

    Raises:
        Refused: One is not.
    """
    for option in ("augment", "outliers", "unlabelled"):
        value = getattr(settings, option)
        if value not in {"", PACKAGED} and not Path(value).expanduser().is_file():
            raise Refused(f"--{option} {value}: no such file")


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
    if name != PACKAGED:
        found = load_for_evaluation(name, split=None, columns=columns, labels=corpus.labels)
        if found.targets is None:
            raise Refused(f"--augment {name}: has no labels; texts of no label are for --outliers")
    else:
        try:
            found = load_for_evaluation(
                str(_SENTENCES), split=None, columns=_OWN, labels=corpus.labels
            )
        except Refused as refusal:
            raise Refused(
                "--augment packaged: the sentences have the labels sadness, joy, love, anger, fear"
                f" and surprise; the dataset has {listed(corpus.labels)}"
            ) from refusal
    return dataclasses.replace(found, name="augment")


def _outliers(name: str, columns: Columns) -> Split:
    path, columns = (_OUTLIERS, _OWN) if name == PACKAGED else (Path(name).expanduser(), columns)
    texts = texts_of(path, columns)
    return Split(name="outliers", texts=texts, targets=None)


def _notes(corpus: Corpus, added: Mapping[str, Split]) -> list[str]:
    """A line on each that was added, and on each that holds texts of what is measured."""
    notes = []
    if "augment" in added:
        notes.append(f"--augment: {len(added['augment']):,} more texts are trained on")
    if "outliers" in added:
        notes.append(f"--outliers: {len(added['outliers']):,} texts of no label are trained on")
    if "unlabelled" in added:
        notes.append(f"--unlabelled: {len(added['unlabelled']):,} texts are learned as taught")
    notes += [
        f"--{option}: {counted(rows, 'row')} of {name} with a text that it has too: the metrics on"
        f" {name} are not of new texts alone"
        for option, split in added.items()
        for name in ("validation", "test")
        if name in corpus.splits and (rows := shared_rows(corpus.splits[name], split))
    ]
    return notes
