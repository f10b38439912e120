"""The trainer and the workers: processes of the demo, with a log, that end when it does."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

import worker
from worker.demo.keeper import KeptProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOK_SECONDS = 0.05
"""Pause between looks at a child."""


class Child:
    """`python -m MODULE ...`, which a terminal's Ctrl-C does not reach.

    It runs in `directory`, where the user has no `.env`, and sees none of the user's WORKER_ and
    TRAIN_ variables. Owned by the main thread.

    Args:
        module: The package to run.
        arguments: Its arguments.
        variables: What its environment has besides the user's variables.
        directory: Its working directory.
        log: The file that gets what it prints; written anew.
    """

    def __init__(
        self,
        module: str,
        arguments: list[str],
        *,
        variables: Mapping[str, str],
        directory: Path,
        log: Path,
    ) -> None:
        self.log = log
        self._read = 0
        # -P: a folder `worker` or `train` in the working directory must not pass for ours.
        command = [sys.executable, "-P", "-m", module, *arguments]
        # By default torch makes its cache in the temporary directory, and leaves it there.
        variables = {"TORCHINDUCTOR_CACHE_DIR": str(directory / "torch"), **variables}
        with log.open("wb") as output:
            self._program = KeptProgram(
                command, log=output, directory=directory, environment=environment(variables)
            )

    def code(self) -> int | None:
        """Its exit code, 128 + N where signal N ended it; None while it runs."""
        return self._program.code()

    def stop(self, grace: float, *, meanwhile: Callable[[], object] | None = None) -> int | None:
        """Sends SIGTERM, after `grace` seconds SIGKILL; returns its exit code, None if killed.

        Args:
            grace: Seconds.
            meanwhile: Is called again and again until it has ended.
        """
        self._program.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while (code := self.code()) is None:
            if time.monotonic() > deadline:
                self.kill()
                return None
            if meanwhile is None:
                time.sleep(LOOK_SECONDS)
            else:
                meanwhile()
        return code

    def kill(self) -> None:
        """Sends SIGKILL to it and to all that it started; returns when it is gone."""
        self._program.kill_all()

    def wait(self, look: Callable[[], None]) -> int:
        """Returns its exit code once it has ended; meanwhile calls `look`, which may raise."""
        while (code := self.code()) is None:
            look()
            time.sleep(LOOK_SECONDS)
        return code

    def new_lines(self) -> list[str]:
        """The whole lines that were added to its log since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()

    def last_words(self) -> str:
        """The last line of its log; where that is JSON, its event."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        fields = as_json(last)
        return str(fields.get("event", last)) if fields else last


def as_json(line: str) -> dict[str, object]:
    """The fields of a log line; none of a line that is not JSON."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without WORKER_ and TRAIN_ variables, and with these in addition."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("WORKER_", "TRAIN_"))}
    # The very packages that run here, also where they run from a checkout that is not installed.
    root = str(Path(worker.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        # Kafka, the demo and its terminal need the cores too: torch's threads must not spin
        # while they wait for each other.
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",  # everything is here: no library may ask a hub, or wait for one
        **variables,
    }
