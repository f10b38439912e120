"""The columns of a split: its values from all files, and its labels with their names."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train import labels
from train.delimited import quoted
from train.errors import Refused
from train.files import Table
from train.tables import Tables


def refuse_missing(tables: Tables, *, text: str, label: str, where: str, needed: bool) -> None:
    """Checks that every file of a split has the columns.

    Args:
        tables: The files.
        text: Name of the column with the texts.
        label: Name of the column with the labels.
        where: The split or file, for the message.
        needed: Whether there must be labels.

    Raises:
        Refused: A file lacks a column. The line names those that it has, and the option that
            chooses one.
    """
    for table in tables:
        lacks = {
            option: name
            for option, name in (("--text-column", text), ("--label-column", label))
            if name not in table.columns
        }
        at = where if len(tables) == 1 else f"{where}, {table.file}"
        if len(tables) > 1 and not table.columns:
            raise Refused(f"{at}: has no rows")
        if table.columns and (text in lacks.values() or (lacks and needed)):
            # Where one of them is there, the first line is a header; else it may be a row.
            headed = len(lacks) == 1 or not table.untyped or _chosen(table, lacks)
            if not needed and len(table.columns) == 1:  # nothing but texts
                lacks.pop("--label-column", None)
            raise Refused(f"{at}: {lacking(table, lacks) if headed else _headless(table, lacks)}")


def lacking(table: Table, lacks: Mapping[str, str]) -> str:
    """Which columns a file lacks, which it has, and how to choose one.

    Args:
        table: The file.
        lacks: The name of each column that it lacks, by the option that chooses it.
    """
    chosen = _chosen(table, lacks)
    way = (
        " ".join(chosen) or f"choose {'one ' if len(lacks) == 1 else ''}with {' and '.join(lacks)}"
    )
    return f"has no {_columns(lacks)}; it has {quoted(table.columns)} ({way})"


def _headless(table: Table, lacks: Mapping[str, str]) -> str:
    return (
        f"has no {_columns(lacks)}: its first line is taken for the names of the columns:"
        f" {quoted(table.columns, always=True)}; if that is a row, write the names in a line above"
        f" it; if not, choose with {' and '.join(lacks)}"
    )


def _columns(lacks: Mapping[str, str]) -> str:
    return f"column{'s' if len(lacks) > 1 else ''} {' and '.join(map(repr, lacks.values()))}"


def _chosen(table: Table, lacks: Mapping[str, str]) -> list[str]:
    """Options with the columns whose names differ in case or white space only.

    Of several such columns, and one that cannot be typed, none is named.
    """
    alike = {
        option: [each for each in table.columns if each.strip().casefold() == name.casefold()]
        for option, name in lacks.items()
    }
    return [
        f"{option} {shlex.quote(found[0])}"
        for option, found in alike.items()
        if len(found) == 1 and found[0].isprintable()
    ]


def values(tables: Tables, name: str, *, where: str) -> list[Any]:
    """The values of a column, of all files of a split, each of which has it.

    Args:
        tables: The files.
        name: The column.
        where: The split or file, for the message.

    Raises:
        Refused: It is not UTF-8.
    """
    return [value for table in tables for value in _read(table, name, where=where)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumn:
    """The labels of a split."""

    values: list[Any]
    """As they were read."""
    spellings: list[str | None]
    declared: tuple[str, ...] | None
    """The names that the dataset gives to its integers."""
    untyped: bool

    @property
    def known(self) -> tuple[str, ...]:
        """The distinct labels, where there are others than -1."""
        found = {label for label in self.spellings if label is not None}
        return tuple(found) if found != {"-1"} else ()


def read(tables: Tables, column: str, *, where: str) -> LabelColumn:
    """Reads the labels of a split.

    Args:
        tables: Its files, each of which has the column.
        column: Name of the column.
        where: The split or file, for the message.

    Raises:
        Refused: A value in it is no label.
    """
    found = values(tables, column, where=where)
    untyped = all(table.untyped for table in tables)
    return LabelColumn(
        values=found,
        spellings=labels.spellings(found, untyped=untyped, where=where),
        declared=tables[0].class_names.get(column),
        untyped=untyped,
    )


def named(
    train: LabelColumn, given: Mapping[str, str], *, column: str
) -> tuple[dict[str, str], bool]:
    """The names of the labels of a dataset.

    Args:
        train: The labels of the split `train`; none is missing.
        given: What `--labels` says.
        column: Name of the column, for the message.

    Returns:
        The name of each spelling, in the order of the classes, and whether nobody named them.

    Raises:
        Refused: The column holds something else than labels.
    """
    if train.declared is not None:
        return labels.renamed(labels.by_spelling(train.declared), given), False
    found = labels.classes(train.spellings, column=column)
    numbers = train.untyped or not isinstance(train.values[0], str)
    names = labels.default_names(found, numbers=numbers)
    named = labels.renamed(labels.by_spelling(names, found), given)
    return named, all(labels.is_number(label) for label in found) and not given


def refuse_unmet(
    names: Mapping[str, str], given: Mapping[str, LabelColumn], classes: Sequence[str]
) -> None:
    """Checks the values of `--labels`: one that no row has is misspelt.

    Args:
        names: What `--labels` says.
        given: The labels of each split.
        classes: The names of all labels.

    Raises:
        Refused: No row has a value.
    """
    there = {label for column in given.values() for label in column.spellings if label}
    there |= {name for column in given.values() for name in column.declared or ()}
    for value in names:
        if value not in there and value not in classes:
            raise Refused(
                f"--labels: no row has the label {value!r}; there are"
                f" {labels.listed(sorted(there))}"
            )


def indices(
    column: LabelColumn, names: Mapping[str, str], classes: Sequence[str], *, where: str
) -> tuple[int, ...] | None:
    """The labels of a split as indices into `classes`; None where it has none.

    Args:
        column: The labels of the split.
        names: The name of each spelling.
        classes: The names to index.
        where: The split, for the message.

    Raises:
        Refused: A row's label is missing, or none of the classes.
    """
    if labels.none_given(column.spellings, known=list(names)):
        return None
    labels.refuse_blank(column.spellings, column.values, where=where)
    way = "" if column.declared else "; train has no row with it"
    return labels.indices(column.spellings, names=names, classes=classes, where=where, way=way)


def _read(table: Table, name: str, *, where: str) -> list[Any]:
    try:
        return list(table.read(name))
    except UnicodeDecodeError as error:
        raise Refused(f"{where}: column {name!r} is not UTF-8 throughout") from error
