"""Files of separated values as rows: every record has the header's fields, or a line says which.

Python's reader is used strictly. Lenient readers, pandas' among them, take all that follows a quote
that is never closed for one text, and the rows in it are gone without a word.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from train.errors import Refused
from train.labels import listed

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between two fields, as a message calls it. The first wins a tie."""

_LONGEST_NAME = 60
"""Characters of a column's name that a message repeats."""

_PLAIN = re.compile(r"[\w.-]+( [\w.-]+)?")
"""A column's name that needs no quotes in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delimited:
    """The records of a file."""

    header: tuple[str, ...]
    """Names of the columns, without white space around them."""
    records: Sequence[Sequence[str]]
    separator: str
    spread: tuple[tuple[int, int, int], ...]
    """Record (counted from 1), first and last line of each record that spans several lines."""


class _Open(Exception):
    """A quote is not closed, or text follows a closing quote."""

    def __init__(self, first: int, last: int, *, closed: bool) -> None:
        super().__init__(first, last, closed)
        self.first, self.last, self.closed = first, last, closed


def read(path: Path, *, separator: str | None = None) -> Delimited:
    """Reads a file in UTF-8 whose first record is the header.

    Args:
        path: The file. In one that ends in `.tsv` fields are separated by tabs, and quotes may
            be part of a text.
        separator: Between two fields; None: the one that makes most fields of the header.

    Raises:
        Refused: A quote is not closed, or a record has other fields than the header.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        content = file.read()
    if separator is None:
        tabs = path.suffix.lower() == ".tsv"
        separator = "\t" if tabs else _separator(content)
    if separator == "\t" and (plain := _unquoted(path, content)) is not None:
        return plain
    try:
        return _table(path, _records(content, separator, quoted=True), separator)
    except _Open as error:
        where = (
            f"line {error.first}"
            if error.first == error.last
            else f"lines {error.first} to {error.last}"
        )
        what = (
            "text follows a closing quote"
            if error.closed
            else "a quote that opens a field is not closed"
        )
        raise Refused(
            f"{path}, {where}: {what}; put a text that has quotes in quotes, and each quote in it"
            ' twice ("")'
        ) from error


def quoted(names: Sequence[str], *, always: bool = False) -> str:
    """Names of columns for a message, short and in one line.

    Args:
        names: As they were read; a row that was taken for a header has texts.
        always: Whether each stands in quotes; else only one that is no plain name.
    """
    return listed([name if _is_plain(name) and not always else _in_quotes(name) for name in names])


def _is_plain(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _PLAIN.fullmatch(name) is not None


def _in_quotes(name: str) -> str:
    short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME].rstrip()} ..."
    # A mark that cannot be seen is shown by its number.
    return json.dumps(short, ensure_ascii=not short.isprintable())


def _separator(content: str) -> str:
    header = re.split(r"[\r\n]", content.lstrip("\r\n"), maxsplit=1)[0]
    return max(SEPARATORS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))


def _records(
    content: str, separator: str, *, quoted: bool
) -> Iterator[tuple[int, int, Sequence[str]]]:
    """First line, last line and fields of each record; records without any text are left out."""
    csv.field_size_limit(sys.maxsize)  # 128 KiB otherwise
    reader = csv.reader(
        StringIO(content, newline=""),
        delimiter=separator,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            ended = "unexpected end" in str(error)
            raise _Open(first, max(first, reader.line_num), closed=not ended) from error
        if fields:
            yield first, reader.line_num, fields


def _table(
    path: Path, records: Iterator[tuple[int, int, Sequence[str]]], separator: str
) -> Delimited:
    _, _, names = next(records, (0, 0, ()))
    header = tuple(name.strip().lstrip("\ufeff").strip() for name in names)
    rows: list[Sequence[str]] = []
    spread = []
    for first, last, fields in records:
        kept = fields[: len(header)]
        if len(kept) < len(header) or any(fields[len(header) :]):
            between = SEPARATORS.get(separator, repr(separator))
            raise Refused(
                f"{path}, line {first}: has {_fields(len(fields))} and the header"
                f" {_fields(len(header))} ({quoted(header)}), separated by {between}; a text that"
                f" contains {separator!r} stands in quotes"
            )
        rows.append(kept)
        if last > first:
            spread.append((len(rows), first, last))
    return Delimited(header=header, records=rows, separator=separator, spread=tuple(spread))


def _unquoted(path: Path, content: str) -> Delimited | None:
    """A file of tabs in which quotes are ordinary characters; None where they are quotes.

    Both kinds are in use. Quotes are quotes where they pair, and no record spans several lines.
    """
    try:
        paired = _table(path, _records(content, "\t", quoted=True), "\t")
        if not paired.spread:
            return None
    except (_Open, Refused):
        pass
    try:
        return _table(path, _records(content, "\t", quoted=False), "\t")
    except (_Open, Refused):
        return None


def _fields(count: int) -> str:
    return f"{count} field{'' if count == 1 else 's'}"
