"""Datasets on the hub, in directories and files, as tables of rows; failures in one line."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train import hub
from train.errors import Refused
from train.given.directory import nearby
from train.given.library import first_line

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""The loader of the library `datasets` for each suffix."""


def file_format(path: Path) -> str | None:
    """The loader for a file, by its suffix; None where it is no file of data."""
    return FORMATS.get(path.suffix.lower())


def read_file(path: Path) -> Any:
    """Reads the rows of one jsonl, csv or parquet file.

    Raises:
        Refused: It is missing, empty, of another format, or cannot be read.
    """
    loader = file_format(path)
    if loader is None:
        raise Refused(f"{path}: a file must be jsonl, csv or parquet")
    if not path.is_file():
        raise Refused(f"{path}: no such file")
    _refuse_empty(path)
    load = _loader()
    return _local(
        str(path),
        lambda cache: load(
            loader,
            data_files={"rows": str(path.resolve())},
            split="rows",
            cache_dir=cache,
            keep_in_memory=True,
            **_options(loader),
        ),
    )


def refuse_missing(name: str) -> None:
    """Checks, before anything is read, that a dataset is there.

    Raises:
        Refused: The name is written as a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if hub.is_local(name) and not path.exists():
        raise Refused(f"dataset {name}: no such directory{nearby(path)}")


def read_splits(name: str) -> dict[str, Any]:
    """Reads every split of a directory or of a dataset on the hub.

    Raises:
        Refused: It is missing, has an empty file, or cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _read_directory(path)
    refuse_missing(name)
    hub.look_up(name, "dataset")
    try:
        return dict(_loader()(name))
    except ConnectionError as error:
        raise Refused(
            f"dataset {name!r}: there is no such directory, the hub cannot be reached, and no copy"
            " is cached"
            f"{nearby(path)}"
        ) from error
    except Exception as error:
        raise _refusal(f"dataset {name!r}", error) from error


def _read_directory(path: Path) -> dict[str, Any]:
    formats = set()
    try:
        files = sorted(path.iterdir())
    except OSError as error:
        raise Refused(f"dataset {path}: {error.strerror}") from error
    for file in files:
        if file.is_file() and (loader := file_format(file)):
            _refuse_empty(file)
            formats.add(loader)
    options = _options("csv") if formats == {"csv"} else {}
    load = _loader()
    return dict(
        _local(
            f"dataset {path}",
            lambda cache: load(str(path), cache_dir=cache, keep_in_memory=True, **options),
        )
    )


def _loader() -> Callable[..., Any]:
    import datasets  # noqa: PLC0415 - a second that `--help` must not take

    datasets.disable_progress_bars()
    # It logs what it also raises; the error is printed, in one line.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
    load: Callable[..., Any] = datasets.load_dataset
    return load


def _options(loader: str) -> dict[str, Any]:
    # Without it pandas takes the tweets "NA", "null" and "None" for missing.
    return {"keep_default_na": False} if loader == "csv" else {}


def _local(what: str, load: Callable[[str], Any]) -> Any:
    # A temporary cache: the shared one would keep a second copy of the user's data, and return
    # stale rows for a file that is rewritten within the same second.
    try:
        with tempfile.TemporaryDirectory(prefix="emotion-train-") as cache:
            return load(cache)
    except Exception as error:
        raise _refusal(what, error) from error


def _refuse_empty(path: Path) -> None:
    try:
        if path.stat().st_size == 0:
            raise Refused(f"{path}: is empty")
        with path.open("rb"):
            pass
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _refusal(what: str, error: Exception) -> Refused:
    """What is wrong: the innermost cause says it; the outer ones only say that something is."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
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
