"""The work directory: it belongs to one run, and no other may resume from its checkpoints."""

import hashlib
import json
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
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError(found)
            if found.get("run") != mine:
                raise Refused(f"--work-dir {work_dir}: {_whose(found, marked)}")
        elif any(work_dir.iterdir()):
            raise Refused(f"--work-dir {work_dir}: is not empty, and belongs to no run")
        else:
            path.write_text(json.dumps(marked), encoding="utf-8")
    except ValueError as error:
        raise Refused(f"--work-dir {work_dir}: {_FILE} is damaged") from error
    except OSError as error:
        raise Refused(f"--work-dir {work_dir}: {error.strerror}") from error


def _whose(found: dict[str, Any], marked: dict[str, Any]) -> str:
    """Another version knows other settings, so that its run is another one whatever was given."""
    if found.get("settings") == marked["settings"]:
        return "belongs to a run with other settings or data"
    return (
        "belongs to a run of another version of emotion-train, or with other settings or data: a"
        " run can be resumed only by the version that began it; give another directory"
    )
