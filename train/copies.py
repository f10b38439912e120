"""Texts that occur more than once in a dataset: within `train`, and in `train` and another split.

Two texts are the same where they differ in white space or in upper and lower case only. Nothing
else is made equal: neither punctuation nor the ways in which Unicode composes a letter.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from train.dataset import Corpus, Split
from train.delimited import quoted
from train.errors import Refused
from train.printer import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """The texts of `train` that it has with more than one label."""

    texts: int
    rows: frozenset[int]
    """All rows with these texts, counted from 0."""
    pair: tuple[int, int]
    """The two labels that most of these texts have, as indices."""
    pair_texts: int
    """Texts that have these two."""
    example: str
    """The first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Rows of a split whose text is in `train` too."""

    rows: int
    relabelled: int
    """Those whose label `train` does not have for the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What occurs more than once."""

    texts: int
    """Different texts that `train` has more than once."""
    rows: int
    """Rows of `train` with these texts."""
    conflicts: Conflicts | None
    """None where each text has one label."""
    shared: Mapping[str, Shared]
    """By split; a split without such rows is left out."""


def rows_by_text(texts: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each text, counted from 0.

    Args:
        texts: Those of a split.

    Returns:
        Rows by the text without outer white space, with single spaces inside, and case-folded.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        found[_compared(text)].append(row)
    return dict(found)


def find(corpus: Corpus) -> Copies:
    """What occurs more than once in a dataset."""
    train = corpus.splits["train"]
    known = rows_by_text(train.texts)
    several = _several(known)
    shared = {
        name: _shared(split, known, train.targets or ())
        for name, split in corpus.splits.items()
        if name != "train"
    }
    return Copies(
        texts=len(several),
        rows=sum(map(len, several)),
        conflicts=_conflicts(train, several),
        shared={name: each for name, each in shared.items() if each.rows},
    )


def without_conflicts(corpus: Corpus) -> Corpus:
    """Leaves out of `train` every row whose text it has with more than one label.

    Raises:
        Refused: The rows that are left have fewer than two labels.
    """
    train = corpus.splits["train"]
    found = _conflicts(train, _several(rows_by_text(train.texts)))
    if found is None:
        note = "--drop-conflicts: no text of train has more than one label"
        return dataclasses.replace(corpus, notes=(*corpus.notes, note))
    kept = train.only([row for row in range(len(train)) if row not in found.rows])
    if len(set(kept.targets or ())) < 2:  # noqa: PLR2004 - with one label there is no choice
        raise Refused(
            f"--drop-conflicts: {counted(len(kept), 'row')} of train would be left, with fewer than"
            f" two labels: {counted(found.texts, 'text')} of {corpus.name} have more than one"
        )
    note = (
        f"--drop-conflicts: {counted(len(found.rows), 'row')} of train left out, the"
        f" {counted(found.texts, 'text')} with more than one label"
    )
    return dataclasses.replace(
        corpus, splits={**corpus.splits, "train": kept}, notes=(*corpus.notes, note)
    )


def shared_rows(one: Split, other: Split) -> int:
    """The rows of a split whose text the other has too."""
    known = rows_by_text(other.texts)
    return sum(len(rows) for text, rows in rows_by_text(one.texts).items() if text in known)


def lines(copies: Copies) -> list[str]:
    """A line on the texts that `train` has more than once, if there are any."""
    if not copies.texts:
        return []
    return [f"train has {counted(copies.texts, 'text')} more than once, in {copies.rows:,} rows"]


def doubts(copies: Copies, labels: Sequence[str]) -> list[str]:
    """A line for texts with more than one label, and for each split that shares texts with `train`.

    Args:
        copies: What was found.
        labels: The names of the labels.
    """
    found = []
    if conflicts := copies.conflicts:
        one, other = (labels[label] for label in conflicts.pair)
        found.append(
            f"train has {counted(conflicts.texts, 'text')} with more than one label, in"
            f" {len(conflicts.rows):,} rows; most often {one} and {other}"
            f" ({counted(conflicts.pair_texts, 'text')}), such as"
            f" {quoted([conflicts.example], always=True)}: --drop-conflicts leaves them out"
        )
    for split, shared in copies.shared.items():
        of_them = f", {shared.relabelled:,} of them with another label" if shared.relabelled else ""
        found.append(
            f"{counted(shared.rows, 'row')} of {split} with a text that train has too{of_them}:"
            f" the metrics on {split} are not of new texts alone"
        )
    return found


def _compared(text: str) -> str:
    return " ".join(text.split()).casefold()


def _several(known: Mapping[str, list[int]]) -> list[list[int]]:
    return [rows for rows in known.values() if len(rows) > 1]


def _conflicts(train: Split, groups: Sequence[Sequence[int]]) -> Conflicts | None:
    """Those among groups of rows, each of which has one text."""
    targets = train.targets or ()
    labels = [sorted({targets[row] for row in rows}) for rows in groups]
    mixed = [at for at, own in enumerate(labels) if len(own) > 1]
    if not mixed:
        return None
    pairs = Counter(pair for at in mixed for pair in combinations(labels[at], 2))
    ((pair, pair_texts),) = pairs.most_common(1)
    first = next(at for at in mixed if {*pair} <= {*labels[at]})
    return Conflicts(
        texts=len(mixed),
        rows=frozenset(row for at in mixed for row in groups[at]),
        pair=pair,
        pair_texts=pair_texts,
        example=train.texts[groups[first][0]],
    )


def _shared(split: Split, known: Mapping[str, Sequence[int]], targets: Sequence[int]) -> Shared:
    there = {row: known.get(_compared(text)) for row, text in enumerate(split.texts)}
    rows = {row: [targets[each] for each in same] for row, same in there.items() if same}
    own = split.targets
    return Shared(
        rows=len(rows),
        relabelled=0 if own is None else sum(own[row] not in same for row, same in rows.items()),
    )
