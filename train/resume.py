"""The work directory: it belongs to one run, and no other may resume from its checkpoints."""

import hashlib
import json
from pathlib import Path

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
    path = work_dir / _FILE
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")) != {"run": mine}:
                raise Refused(
                    f"--work-dir {work_dir}: belongs to a run with other settings or data"
                )
        elif any(work_dir.iterdir()):
            raise Refused(f"--work-dir {work_dir}: is not empty, and belongs to no run")
        else:
            path.write_text(json.dumps({"run": mine}), encoding="utf-8")
    except ValueError as error:
        raise Refused(f"--work-dir {work_dir}: {_FILE} is damaged") from error
    except OSError as error:
        raise Refused(f"--work-dir {work_dir}: {error.strerror}") from error
