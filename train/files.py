"""Files of data as tables: csv, tsv, jsonl, json and parquet, each row under the same rules."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train import delimited
from train.errors import Refused
from train.given.library import first_line

FORMATS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
"""The format of a file, by its suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one file, or of one split on the hub. A column is read when it is asked for."""

    file: str
    """Its path below the dataset's directory; empty for the hub."""
    path: Path | None = None
    """Where it lies; None for the hub."""
    columns: tuple[str, ...]
    rows: int
    read: Callable[[str], Sequence[Any]]
    """The values of a column, by its name."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names that a column of type `ClassLabel` gives to its integers, by column."""
    untyped: bool = False
    """Whether every value is a text, as in csv, so that "0" may be meant as a number."""
    spread: tuple[tuple[int, int, int], ...] = ()
    """Row, first and last line of each record of csv that spans several lines."""


def format_of(path: Path) -> str | None:
    """The format of a file, by its suffix; None where it is no file of data."""
    return FORMATS.get(path.suffix.lower())


def read(path: Path, *, file: str, separator: str | None = None) -> Table:
    """Reads a file.

    Args:
        path: The file.
        file: What messages call it.
        separator: Between two fields of csv; None: found from the header.

    Raises:
        Refused: It is empty or damaged, or cannot be read.
    """
    reader = {"csv": _csv, "json": _json, "parquet": _parquet}[format_of(path) or "json"]
    try:
        if path.stat().st_size == 0:
            raise Refused(f"{path}: is empty")
        if reader is not _parquet:
            _refuse_utf16(path)
        return reader(path, file, separator)
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or first_line(error)}") from error


def _refuse_utf16(path: Path) -> None:
    """Names what spreadsheets save as "Unicode text": it has a mark, or every other byte is 0."""
    with path.open("rb") as file:
        start = file.read(64)
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if marked or (len(start) > 1 and not (any(start[::2]) and any(start[1::2]))):
        raise Refused(f"{path}: is UTF-16: save it as UTF-8")


def class_names(features: Any) -> dict[str, tuple[str, ...]]:
    """The names of each column of type `ClassLabel` among features of the library `datasets`."""
    return {
        column: tuple(feature.names)
        for column, feature in (features or {}).items()
        if getattr(feature, "names", None)
    }


def _csv(path: Path, file: str, separator: str | None) -> Table:
    found = delimited.read(path, separator=separator)

    def column(name: str) -> list[str]:
        place = found.header.index(name)
        if name in found.header[place + 1 :]:
            raise Refused(f"{path}: has two columns {name!r}: give them different names")
        return [record[place] for record in found.records]

    return Table(
        file=file,
        path=path,
        columns=found.header,
        rows=len(found.records),
        read=column,
        untyped=True,
        spread=found.spread,
    )


def _json(path: Path, file: str, _separator: str | None) -> Table:
    with path.open(encoding="utf-8-sig", newline="\n") as source:
        start = source.read(1)
        while start.isspace():
            start = source.read(1)
        source.seek(0)
        rows = _array(path, source.read()) if start == "[" else _objects(path, source)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(
        file=file,
        path=path,
        columns=columns,
        rows=len(rows),
        read=lambda name: [row.get(name) for row in rows],
    )


def _objects(path: Path, lines: Any) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _parsed(line, at=f"{path}, line {number}")
            if not isinstance(row, dict):
                raise Refused(f'{path}, line {number}: is no object, such as {{"text": ...}}')
            rows.append(row)
    return rows


def _array(path: Path, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _parsed(text, at=str(path))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise Refused(f'{path}, row {number}: is no object, such as {{"text": ...}}')
    return rows


def _parsed(text: str, *, at: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise Refused(
            f"{at}: JSON parse error: {error.msg} (character {error.pos + 1}); give one object on"
            " each line, or one array of objects"
        ) from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{at}: JSON parse error: {first_line(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return found


def _parquet(path: Path, file: str, _separator: str | None) -> Table:
    # A second that `--help` must not take.
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415
    from datasets import Features  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        source = parquet.ParquetFile(path)
        features = Features.from_arrow_schema(source.schema_arrow)
        rows = source.metadata.num_rows
    except (pa.ArrowException, ValueError) as error:
        raise Refused(f"{path}: {first_line(error)}") from error
    return Table(
        file=file,
        path=path,
        columns=tuple(features),
        rows=rows,
        read=lambda name: list(source.read(columns=[name])[name].to_pylist()),
        class_names=class_names(features),
    )
