"""The work directory: it belongs to one run, and no other may resume from its checkpoints."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from train.errors import Refused
from train.settings import RunSettings

_FILE = "run.json"


def claim(work_dir: Path, settings: RunSettings, *, fingerprint: str) -> None:
    """Marks the work directory as this run's, or checks that it is.

    Args:
        work_dir: The directory; it is made where there is none.
        settings: The user's. Two runs with the same settings and data are one.
        fingerprint: That of the dataset.

    Raises:
        Refused: It is another run's, holds something else, or cannot be written.
    """
    # What the epochs so far depend on; the output and the name may change.
    facts = settings.model_dump(mode="json", exclude={"output", "work_dir", "name", "device"})
    mine = hashlib.sha256(json.dumps([facts, fingerprint], sort_keys=True).encode()).hexdigest()
    marked = {"run": mine, "settings": sorted(facts)}
    path = work_dir / _FILE
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text:
            found = json.loads(text)
            if not isinstance(found, dict):
                raise ValueError(found)
            if found.get("run") != mine:
                raise Refused(f"--work-dir {work_dir}: {_whose(found, marked)}")
        # An empty file is what a run leaves that is killed while it writes it.
        elif any(each != path for each in work_dir.iterdir()):
            raise Refused(f"--work-dir {work_dir}: is not empty, and belongs to no run")
        else:
            path.write_text(json.dumps(marked), encoding="utf-8")
    except ValueError as error:
        raise Refused(f"--work-dir {work_dir}: {_FILE} is damaged") from error
    except OSError as error:
        raise Refused(f"--work-dir {work_dir}: {error.strerror}") from error


def last_epoch(folder: Path) -> Path | None:
    """The last checkpoint of an epoch that is whole; those after it are deleted.

    The Trainer writes into the checkpoint's directory itself, its state last. A run that is killed
    while it writes leaves a part of one, from which none can resume.

    Args:
        folder: The directory with the checkpoints; there may be none.
    """
    found = sorted(folder.glob("checkpoint-*"), key=_step) if folder.is_dir() else []
    while found and not _is_whole(found[-1]):
        shutil.rmtree(found.pop(), ignore_errors=True)
    return found[-1] if found else None


def way_on(work_dir: Path | None) -> str:
    """What somebody should know who interrupted a training; empty where nothing is kept of it."""
    if work_dir is None or not any(map(_is_whole, work_dir.glob("checkpoint-*"))):
        return ""
    return f"the same command resumes from the last epoch in {work_dir}"


def _step(checkpoint: Path) -> int:
    step = checkpoint.name.rpartition("-")[2]
    return int(step) if step.isdecimal() else -1


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
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
