"""Hub names, directories and files -> tables of rows, with the library's failures in one line."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train import hub
from train.errors import Refused
from train.given.directory import nearby
from train.given.library import first_line

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def file_format(path: Path) -> str | None:
    """The loader for a file's suffix; None where the name is not that of a data file."""
    return FORMATS.get(path.suffix.lower())


def read_file(path: Path) -> Any:
    """The rows of one jsonl, csv or parquet file.

    Raises:
        Refused: It is not there, empty, of another format or not readable.
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
    """Before anything is read.

    Raises:
        Refused: The dataset is spelled as a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if hub.is_local(name) and not path.exists():
        raise Refused(f"dataset {name}: no such directory{nearby(path)}")


def read_splits(name: str) -> dict[str, Any]:
    """Every split of a directory or of a dataset on the hub.

    Raises:
        Refused: It is not there, has an empty file, or is not readable.
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
            f"dataset {name!r}: no such directory, the hub is out of reach and no copy is cached"
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
    # It prints what it also raises, and the raised one becomes our line.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
    load: Callable[..., Any] = datasets.load_dataset
    return load


def _options(loader: str) -> dict[str, Any]:
    # Else pandas takes the tweets "NA", "null" and "None" for missing.
    return {"keep_default_na": False} if loader == "csv" else {}


def _local(what: str, load: Callable[[str], Any]) -> Any:
    # A cache of our own that goes at once: the shared one would keep a second copy of the
    # user's data, and hand out stale rows for a file rewritten within the same second.
    try:
        with tempfile.TemporaryDirectory(prefix="emotion-train-") as cache:
            return load(cache)
    except Exception as error:
        raise _refusal(what, error) from error


def _refuse_empty(path: Path) -> None:
    try:
        if path.stat().st_size == 0:
            raise Refused(f"{path}: empty")
        with path.open("rb"):
            pass
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _refusal(what: str, error: Exception) -> Refused:
    """The innermost cause says what is wrong; the outer ones say that something is."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if type(cause).__name__ == "CastError":
        there = ", ".join(getattr(cause, "table_column_names", None) or ["unknown ones"])
        return Refused(f"{what}: each split, and the README, needs the same columns, not {there}")
    if isinstance(cause, UnicodeDecodeError):
        return Refused(f"{what}: not UTF-8 ({cause.reason} at byte {cause.start})")
    if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):
        return Refused(f"{what}: a split has no rows")
    return Refused(f"{what}: {first_line(cause)}")
