"""Datasets on the hub, in directories and files, as tables of rows; failures in one line."""

import dataclasses
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train import files, hub
from train.errors import Refused
from train.files import Table
from train.given.directory import nearby
from train.given.library import first_line

Tables = Sequence[Table]
"""The tables of one split, one for each of its files."""


def is_file(name: str) -> bool:
    """Whether a dataset is given as one file, be it there or not."""
    path = Path(name).expanduser()
    return path.is_file() or (files.format_of(path) is not None and not path.is_dir())


def read_file(path: Path) -> Tables:
    """Reads the rows of one jsonl, csv, tsv or parquet file.

    Raises:
        Refused: It is missing, empty, of another format, or cannot be read.
    """
    if files.format_of(path) is None:
        raise Refused(f"{path}: a file must be jsonl, csv, tsv or parquet")
    if not path.is_file():
        raise Refused(f"{path}: no such file")
    return [files.read(path, file=path.name)]


def refuse_missing(name: str) -> None:
    """Checks, before anything is read, that a dataset is there.

    Raises:
        Refused: The name is written as a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if hub.is_local(name) and not path.exists():
        raise Refused(f"dataset {name}: no such directory{nearby(path)}")


def read_splits(name: str, *, config: str = "") -> dict[str, Tables]:
    """Reads every split of a directory or of a dataset on the hub.

    Args:
        name: As the user wrote it.
        config: The one of its configurations to read; empty: its only or its default one.

    Raises:
        Refused: It is missing, has several configurations and none is chosen, has an empty file,
            or cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _read_directory(path, config or None)
    refuse_missing(name)
    hub.look_up(name, "dataset")
    try:
        found = _library().load_dataset(name, config or None)
    except ConnectionError as error:
        raise Refused(
            f"dataset {name!r}: there is no such directory, the hub cannot be reached, and no copy"
            " is cached"
            f"{nearby(path)}"
        ) from error
    except Exception as error:
        raise _refusal(f"dataset {name!r}", error) from error
    return _of_library(found)


def _read_directory(path: Path, config: str | None) -> dict[str, Tables]:
    what = f"dataset {path}"
    _refuse_unreadable(path)
    # The library decides which file belongs to which split; it knows the README's rules.
    builder = _temporary(
        what,
        lambda cache: _library().load_dataset_builder(str(path), config, cache_dir=cache),
    )
    data_files: Mapping[Any, Sequence[str]] = builder.config.data_files or {}
    paths = [Path(file) for each in data_files.values() for file in each]
    if not paths or not all(files.format_of(file) for file in paths) or _unusual(builder):
        return _of_library(_by_library(what, path, config, builder.name))
    names = files.class_names(builder.info.features)
    separator = getattr(builder.config, "sep", ",")
    return {
        str(split): [
            _named(
                files.read(
                    Path(file),
                    file=_below(Path(file), path),
                    # A comma is the library's default, and not what a README says.
                    separator=None if separator in {",", "\t"} else separator,
                ),
                names,
            )
            for file in sorted(each)
        ]
        for split, each in data_files.items()
    }


def _unusual(builder: Any) -> bool:
    """Whether a README asks for a way of reading that only the library has."""
    plain = {
        "names": None,
        "column_names": None,
        "header": "infer",
        "skiprows": None,
        "quoting": 0,
        "quotechar": '"',
        "escapechar": None,
        "delimiter": None,
        "field": None,
    }
    return any(getattr(builder.config, name, value) != value for name, value in plain.items()) or (
        getattr(builder.config, "encoding", None) not in {None, "utf-8"}
    )


def _named(table: Table, names: Mapping[str, tuple[str, ...]]) -> Table:
    return dataclasses.replace(table, class_names={**table.class_names, **names})


def _below(file: Path, folder: Path) -> str:
    try:
        return file.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return file.name


def _by_library(what: str, path: Path, config: str | None, loader: str) -> Any:
    # Without it pandas takes the tweets "NA", "null" and "None" for missing.
    options: dict[str, Any] = {"keep_default_na": False} if loader == "csv" else {}
    return _temporary(
        what,
        lambda cache: _library().load_dataset(
            str(path), config, cache_dir=cache, keep_in_memory=True, **options
        ),
    )


def _of_library(found: Mapping[Any, Any]) -> dict[str, Tables]:
    def table(rows: Any) -> Table:
        return Table(
            file="",
            columns=tuple(rows.column_names),
            rows=len(rows),
            read=lambda name: list(rows[name][:]),
            class_names=files.class_names(rows.features),
        )

    return {str(split): [table(rows)] for split, rows in found.items()}


def _library() -> Any:
    import datasets  # noqa: PLC0415 - a second that `--help` must not take

    datasets.disable_progress_bars()
    # It logs what it also raises; the error is printed, in one line.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
    return datasets


def _temporary(what: str, load: Callable[[str], Any]) -> Any:
    # A temporary cache: the shared one would keep a second copy of the user's data, and return
    # stale rows for a file that is rewritten within the same second.
    try:
        with tempfile.TemporaryDirectory(prefix="emotion-train-") as cache:
            return load(cache)
    except Exception as error:
        raise _refusal(what, error) from error


def _refuse_unreadable(path: Path) -> None:
    """Names an empty or locked file itself: the library says only that it infers no format."""
    try:
        for file in sorted(path.iterdir()):
            if file.is_file() and files.format_of(file):
                if file.stat().st_size == 0:
                    raise Refused(f"{file}: is empty")
                with file.open("rb"):
                    pass
    except OSError as error:
        raise Refused(f"dataset {error.filename or path}: {error.strerror}") from error


def _refusal(what: str, error: Exception) -> Refused:
    """What is wrong: the innermost cause says it; the outer ones only say that something is."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    configs = re.search(r"(?:available configs|Available): \[(.*?)\]", str(cause), re.DOTALL)
    if configs:
        there = configs[1].replace("'", "")
        return Refused(f"{what}: choose one of its configs with --dataset-config: {there}")
    if type(cause).__name__ == "CastError":
        there = ", ".join(getattr(cause, "table_column_names", None) or ["unknown ones"])
        return Refused(
            f"{what}: all splits, and its README, need the same columns; one has {there}"
        )
    if isinstance(cause, UnicodeDecodeError):
        return Refused(f"{what}: is not UTF-8 ({cause.reason} at byte {cause.start})")
    if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
        return Refused(f"{what}: a split has no rows")
    return Refused(f"{what}: {first_line(cause)}")
