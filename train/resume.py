"""A work directory belongs to one run: its epoch checkpoints must not end up in another."""

import hashlib
import json
from pathlib import Path

from train.errors import Refused
from train.settings import RunSettings

_FILE = "run.json"


def claim(work_dir: Path, settings: RunSettings, *, fingerprint: str) -> None:
    """Make the directory this run's, or find that it is.

    Raises:
        Refused: It was another run's, holds something else or cannot be written.
    """
    # What the epochs so far depend on. Where the result goes may change.
    facts = settings.model_dump(mode="json", exclude={"output", "work_dir", "name", "device"})
    mine = hashlib.sha256(json.dumps([facts, fingerprint], sort_keys=True).encode()).hexdigest()
    path = work_dir / _FILE
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")) != {"run": mine}:
                raise Refused(f"--work-dir {work_dir}: has a run with other settings or data")
        elif any(work_dir.iterdir()):
            raise Refused(f"--work-dir {work_dir}: not empty, and no run of ours")
        else:
            path.write_text(json.dumps({"run": mine}), encoding="utf-8")
    except ValueError as error:
        raise Refused(f"--work-dir {work_dir}: {_FILE} is damaged") from error
    except OSError as error:
        raise Refused(f"--work-dir {work_dir}: {error.strerror}") from error
