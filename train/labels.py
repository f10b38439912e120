"""Columns of labels to label names and indices; a row without exactly one label is refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.errors import Refused

Values = Sequence[Any]


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names that a column of type `ClassLabel` declares; None for any other column."""
    names = getattr(feature, "names", None)
    return None if names is None else tuple(names)


def names_from(columns: Mapping[str, Values]) -> tuple[tuple[str, ...], bool]:
    """The names of labels that the dataset does not declare, from the split `train`.

    Args:
        columns: The column of labels of each split.

    Returns:
        The names in the order of their indices, and whether they are made up: strings are sorted,
        and integers become `LABEL_0`, `LABEL_1` ..., as transformers names them.

    Raises:
        Refused: A row has no label of these two kinds, or the column mixes them.
    """
    values = columns["train"]
    if all(isinstance(value, str) for value in values):
        return tuple(sorted(set(values))), False
    if all(_is_index(value) for value in values):
        return tuple(f"LABEL_{i}" for i in range(max(0, *values) + 1)), True
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str) and not _is_index(value):
            raise Refused(f"train, row {row}: expected one label, found {kind_of(value)}")
    raise Refused("train: some labels are strings and some are numbers")


def indices(
    values: Values, *, labels: Sequence[str], declared: Sequence[str] | None, where: str
) -> tuple[int, ...] | None:
    """The labels of a column as indices.

    Args:
        values: The column: names, or indices into `declared` (else into `labels`).
        labels: The names to index: the training labels, or those of a checkpoint.
        declared: The names that the column's own `ClassLabel` gives to its integers.
        where: The split or file, for the message.

    Returns:
        Each row's index into `labels`; None where no row has a label (null, or -1).

    Raises:
        Refused: A row's label is missing, of another kind, or none of the names.
    """
    if all(value is None or value == -1 for value in values):
        return None
    position = {label: i for i, label in enumerate(labels)}
    names = labels if declared is None else declared
    found = []
    for row, value in enumerate(values, start=1):
        at = f"{where}, row {row}"
        if value is None:
            raise Refused(f"{at}: the label is missing")
        if _is_index(value):
            if not 0 <= value < len(names):
                raise Refused(f"{at}: label {value} is not between 0 and {len(names) - 1}")
            value = names[value]  # noqa: PLW2901 - from here on a name
        elif not isinstance(value, str):
            raise Refused(f"{at}: expected one label, found {kind_of(value)}")
        if value not in position:
            raise Refused(f"{at}: label {value!r} is not one of {', '.join(labels)}")
        found.append(position[value])
    return tuple(found)


def kind_of(value: object) -> str:
    """What a value is, for a message: `nothing`, `a list`, `a number`."""
    if value is None:
        return "nothing"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    kinds = {bool: "true or false", list: "a list", dict: "an object", str: "a text"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
