"""Label columns -> label names and indices; what is no single label is refused by its row."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.errors import Refused

Values = Sequence[Any]


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names that a `ClassLabel` feature declares; None for any other column."""
    names = getattr(feature, "names", None)
    return None if names is None else tuple(names)


def names_from(columns: Mapping[str, Values]) -> tuple[tuple[str, ...], bool]:
    """Names for undeclared labels, from the `train` column: sorted strings, or `LABEL_0…`.

    Returns:
        The names in the order of their indices, and whether they had to be made up.
    """
    values = columns["train"]
    if all(isinstance(value, str) for value in values):
        return tuple(sorted(set(values))), False
    if all(_is_index(value) for value in values):
        return tuple(f"LABEL_{i}" for i in range(max(0, *values) + 1)), True
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str) and not _is_index(value):
            raise Refused(f"train, row {row}: {_kind(value)} where one label is due")
    raise Refused("train: the labels are partly strings and partly numbers")


def indices(
    values: Values, *, labels: Sequence[str], declared: Sequence[str] | None, where: str
) -> tuple[int, ...] | None:
    """Each row's index into `labels`; None where no row has a label (null, or -1).

    Args:
        values: One a row: a name, or an index into `declared` (else into `labels`).
        labels: The names that count: the training labels, or those of a checkpoint.
        declared: The names that the column's own `ClassLabel` gives to its integers.
        where: The split or file, for the message.

    Raises:
        Refused: A row's label is missing, of the wrong kind or outside the names.
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
                raise Refused(f"{at}: label {value} is outside 0..{len(names) - 1}")
            value = names[value]  # noqa: PLW2901 - from here on a name
        elif not isinstance(value, str):
            raise Refused(f"{at}: {_kind(value)} where one label is due")
        if value not in position:
            raise Refused(f"{at}: label {value!r} is none of {', '.join(labels)}")
        found.append(position[value])
    return tuple(found)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"
