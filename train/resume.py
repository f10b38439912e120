"""The work directory: it belongs to one run, and no other may resume from its checkpoints."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from train.errors import Busy, Refused
from train.settings import RunSettings

_STEP = re.compile(r"checkpoint-(\d+)", re.ASCII)
_FILE = "run.json"
_LOGITS = re.compile(r"teacher-[0-9a-f]{16}\.npy")
"""The logits of a teacher. Their name says of which one, and for which texts, so that any run with
them may read a copy."""


@contextlib.contextmanager
def claimed(work_dir: Path, settings: RunSettings, *, fingerprint: str) -> Iterator[None]:
    """Marks the work directory as this run's, or checks that it is; it is locked for the block.

    Args:
        work_dir: The directory; it is made where there is none.
        settings: The user's. Two runs with the same settings and data are one.
        fingerprint: That of the dataset.

    Raises:
        Refused: It is another run's, holds something else, or cannot be written.
        Busy: Another process runs the same in it: the two would write over each other's epochs.
    """
    with contextlib.ExitStack() as stack:
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            if not (work_dir / _FILE).exists():
                _refuse_what_is_no_runs(work_dir)
            mark = stack.enter_context((work_dir / _FILE).open("ab+", buffering=0))
            _lock(mark, work_dir)
            _claim(mark, work_dir, settings, fingerprint=fingerprint)
        except ValueError as error:
            raise Refused(f"--work-dir {work_dir}: {_FILE} is damaged") from error
        except OSError as error:
            raise Refused(f"--work-dir {work_dir}: {error.strerror}") from error
        yield


def _lock(mark: BinaryIO, work_dir: Path) -> None:
    """The kernel gives the lock back when the process ends, however it ends.

    A network file system whose client is gone may take a minute or two for it.
    """
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise Busy(
            f"--work-dir {work_dir}: another process trains in it now: try again when it has ended"
        ) from error
    except OSError as error:
        # A file system without locks: there the user has to see to it.
        if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}:
            raise


def _claim(mark: BinaryIO, work_dir: Path, settings: RunSettings, *, fingerprint: str) -> None:
    # What the epochs so far depend on. The output, the name and the temperature may change, and
    # a recipe is the settings that it stands for.
    apart = {"output", "work_dir", "name", "device", "temperature", "recipe"}
    facts = settings.model_dump(mode="json", exclude=apart)
    mine = hashlib.sha256(json.dumps([facts, fingerprint], sort_keys=True).encode()).hexdigest()
    marked = {"run": mine, "settings": sorted(facts)}
    mark.seek(0)
    if text := mark.read():
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(found)
        if found.get("run") != mine:
            raise Refused(f"--work-dir {work_dir}: {_whose(found, marked)}")
    else:  # new, or what a run leaves that is killed while it writes it
        _refuse_what_is_no_runs(work_dir)
        data = json.dumps(marked).encode()
        if mark.write(data) < len(data):
            mark.truncate(0)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _refuse_what_is_no_runs(work_dir: Path) -> None:
    if any(each.name != _FILE and not _LOGITS.fullmatch(each.name) for each in work_dir.iterdir()):
        raise Refused(f"--work-dir {work_dir}: is not empty, and belongs to no run")


def last_epoch(folder: Path) -> Path | None:
    """The last checkpoint of an epoch that is whole.

    The Trainer writes into the checkpoint's directory itself, its state last. A run that is killed
    while it writes leaves a part of one, from which none can resume. The next run writes over it.

    Args:
        folder: The directory with the checkpoints; there may be none.

    Raises:
        Refused: A checkpoint cannot be read.
    """
    try:
        return next(filter(_is_whole, reversed(_epochs(folder))), None)
    except OSError as error:
        raise Refused(f"--work-dir {folder}: {error.strerror}: {error.filename}") from error


def way_on(work_dir: Path | None) -> str:
    """What somebody should know who interrupted a training; empty where nothing is kept of it."""
    try:
        if work_dir is None or not any(map(_is_whole, _epochs(work_dir))):
            return ""
    except OSError:
        return ""
    return f"the same command resumes from the last epoch in {work_dir}"


def _epochs(folder: Path) -> list[Path]:
    """What the Trainer has named so, in the order of steps."""
    if not folder.is_dir():
        return []
    steps = {path: _STEP.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()}
    found = {path: int(step[1]) for path, step in steps.items() if step}
    return sorted(found, key=found.__getitem__)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True


def _whose(found: dict[str, Any], marked: dict[str, Any]) -> str:
    """Another version knows other settings, so that its run is another one whatever was given."""
    if found.get("settings") == marked["settings"]:
        return "belongs to a run with other settings or data"
    return (
        "belongs to a run of another version of emotion-train, or with other settings or data: a"
        " run can be resumed only by the version that began it; give another directory"
    )
