"""Columns of labels to label names and indices: the distinct values of a column are the classes.

A value is compared by how it is written, its spelling: the number 4, 4.0 and the text `4` of a csv
file are one class. Names come from the dataset, from `--labels`, or are the spellings themselves.
"""

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from train.errors import Refused

Spellings = Sequence[str | None]
"""The labels of a split as they are written; None for a row without one."""

MOST_LABELS = 4096
"""A confusion matrix of twice as many takes over 500 MB."""

FEW_ROWS = 100
"""Labels from which on two rows each are asked for: identifiers and texts have one row each."""

_WHOLE = re.compile(r"-?[0-9]{1,4000}\.0*")
_INTEGER = re.compile(r"-?[0-9]{1,4000}")
_SHOWN = 12
"""Labels in a message. A line of 150 says less than one of a dozen."""


def mapping(given: str) -> dict[str, str]:
    """The names that `--labels` gives to values.

    Args:
        given: `VALUE=NAME` pairs between commas, or a JSON object.

    Raises:
        Refused: It is neither, names a value twice, or a value or a name is blank.
    """
    if given.lstrip().startswith("{"):
        try:
            pairs = [(key, name) for key, name in json.loads(given, object_pairs_hook=list)]
        except (ValueError, RecursionError) as error:
            raise Refused(f"--labels: is not JSON: {error}") from error
    else:
        pairs = []
        for part in given.split(",") if given.strip() else []:
            value, equals, name = part.partition("=")
            if not equals:
                raise Refused(
                    f"--labels: {part.strip()!r} is not VALUE=NAME; for names with commas give a"
                    " JSON object"
                )
            pairs.append((value, name))
    names: dict[str, str] = {}
    for value, name in pairs:
        if not isinstance(name, str) or not value.strip() or not name.strip():
            raise Refused(f"--labels: {value.strip()!r} needs a name that is a text, and not blank")
        if names.setdefault(value.strip(), name.strip()) != name.strip():
            raise Refused(f"--labels: {value.strip()!r} has two names")
    return names


def spellings(values: Sequence[Any], *, untyped: bool, where: str) -> list[str | None]:
    """How each label of a column is written.

    Args:
        values: The column.
        untyped: Whether numbers are texts too, as in csv.
        where: The split or file, for the message.

    Raises:
        Refused: A row's label is a list, an object, an infinite number, or a text with a line break
            or without a meaning in Unicode.
    """
    found = [
        _spelling(value, at=f"{where}, row {row}") for row, value in enumerate(values, start=1)
    ]
    there = {label for label in found if label is not None}
    if untyped and all(_WHOLE.fullmatch(label) or _INTEGER.fullmatch(label) for label in there):
        return [label.partition(".")[0] if label else None for label in found]
    return found


def is_number(label: str) -> bool:
    """Whether a label is written as a number, so that it says nothing to a reader."""
    return label in {"true", "false"} or re.fullmatch(r"-?[0-9.]+", label) is not None


def none_given(labels: Spellings, *, known: Sequence[str] = ()) -> bool:
    """Whether a split has no labels: all are missing, or -1, as splits with hidden labels have it.

    Args:
        labels: The labels of the split.
        known: The classes: -1 may be one of them.
    """
    return all(label is None or (label == "-1" and "-1" not in known) for label in labels)


def refuse_blank(labels: Spellings, values: Sequence[Any], *, where: str) -> None:
    """Checks that every row has a label.

    Args:
        labels: The labels of the split.
        values: The column as it was read.
        where: The split or file, for the message.

    Raises:
        Refused: With the first row that has none, and how many there are.
    """
    rows = [row for row, label in enumerate(labels, start=1) if label is None]
    if rows:
        blank = isinstance(values[rows[0] - 1], str)
        what = "the label is blank" if blank else "expected one label, found nothing"
        more = f" ({len(rows):,} of {len(labels):,} rows have none)" if rows[1:] else ""
        raise Refused(f"{where}, row {rows[0]}: {what}{more}")


def refuse_mixed(values: Sequence[Any], *, where: str) -> None:
    """Checks that a column does not hold texts and numbers.

    Raises:
        Refused: It does; with a row of each.
    """
    rows: dict[bool, int] = {}
    for row, value in enumerate(values, start=1):
        if value is not None and not (isinstance(value, str) and not value.strip()):
            rows.setdefault(isinstance(value, str), row)
    if len(rows) > 1:
        raise Refused(
            f"{where}: some labels are strings and some are numbers (rows {rows[True]} and"
            f" {rows[False]}): write all as strings"
        )


def classes(labels: Spellings, *, column: str) -> tuple[str, ...]:
    """The distinct labels: integers by their size, anything else by its letters.

    Args:
        labels: Those of the split `train`; none is missing.
        column: Name of the column, for the message.

    Raises:
        Refused: There are so many that the column holds something else.
    """
    found = {label for label in labels if label is not None}
    if len(found) > MOST_LABELS or len(found) > max(FEW_ROWS, len(labels) // 2):
        raise Refused(
            f"train: column {column!r} has {len(found):,} different values in {len(labels):,} rows,"
            " so it holds no classes: choose another with --label-column"
        )
    integers = all(_INTEGER.fullmatch(label) for label in found)
    return tuple(sorted(found, key=lambda label: (int(label) if integers else 0, label)))


def default_names(found: Sequence[str], *, numbers: bool) -> tuple[str, ...]:
    """The names of classes that nothing names.

    Args:
        found: The classes, sorted.
        numbers: Whether the dataset has them as numbers.

    Returns:
        `LABEL_0`, `LABEL_1` ..., as transformers names them, for the numbers from 0 on without a
        gap; else how the classes are written.
    """
    if numbers and list(found) == [str(i) for i in range(len(found))]:
        return tuple(f"LABEL_{i}" for i in range(len(found)))
    return tuple(found)


def by_spelling(names: Sequence[str], found: Sequence[str] | None = None) -> dict[str, str]:
    """The name of each spelling.

    Args:
        names: The names of the classes.
        found: How the classes are written; None: as their names, or as their indices.
    """
    if found is not None:
        return dict(zip(found, names, strict=True))
    return {str(i): name for i, name in enumerate(names)} | {name: name for name in names}


def renamed(names: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The names of spellings, after `--labels`, which may name a class by its spelling or its name.

    Args:
        names: The name of each spelling.
        given: What `--labels` says.
    """
    return {
        spelling: given.get(spelling, given.get(name, name)) for spelling, name in names.items()
    }


def indices(
    labels: Spellings, *, names: Mapping[str, str], classes: Sequence[str], where: str, way: str
) -> tuple[int, ...]:
    """The labels of a split as indices.

    Args:
        labels: The labels; none is missing.
        names: The name of each spelling.
        classes: The names to index.
        where: The split or file, for the message.
        way: What the message says beside it of a label that is unknown: `{pair}` becomes an
            example of `--labels`.

    Returns:
        Each row's index into `classes`.

    Raises:
        Refused: A row's label is none of the classes.
    """
    position = {name: i for i, name in enumerate(classes)}
    places = {spelling: position.get(name) for spelling, name in names.items()}
    found = []
    for row, label in enumerate(labels, start=1):
        place = places.get(label or "")
        if place is None:
            raise Refused(
                f"{where}, row {row}: {_unknown(label or '', classes)}"
                + way.format(pair=shlex.quote(f"{label}={classes[0]}"))
            )
        found.append(place)
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first dozen, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def alike(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The names that differ in upper and lower case only, in groups."""
    folded = Counter(name.casefold() for name in names)
    return [
        tuple(name for name in names if name.casefold() == fold)
        for fold, count in folded.items()
        if count > 1
    ]


def kind_of(value: object) -> str:
    """What a value is, for a message: `nothing`, `a list`, `a number`."""
    if value is None:
        return "nothing"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    kinds = {bool: "true or false", list: "a list", dict: "an object", str: "a text"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _unknown(label: str, classes: Sequence[str]) -> str:
    if _INTEGER.fullmatch(label) and not any(_INTEGER.fullmatch(name) for name in classes):
        return f"label {label} is not between 0 and {len(classes) - 1}"
    return f"label {label!r} is not one of {listed(classes)}"


def _spelling(value: Any, *, at: str) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _digits(value, at=at)
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise Refused(f"{at}: the label is an infinite number")
        return str(int(value)) if value == int(value) else str(value)
    if not isinstance(value, str):
        raise Refused(f"{at}: expected one label, found {kind_of(value)}")
    text = value.strip()
    if len(text.splitlines()) > 1:
        raise Refused(f"{at}: the label contains a line break: is a quote left open before it?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{at}: the label is not valid Unicode") from error
    return text or None


def _digits(value: int, *, at: str) -> str:
    try:
        return str(value)
    except ValueError as error:  # over 4,300 digits
        raise Refused(f"{at}: the label is a number of more than 4,300 digits") from error
