"""Programs that the demo runs beside itself: logged, stopped in order, and gone when it is gone."""

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
"""Pause between looks at a child: its end is noticed so late."""


class Child:
    """`python -m MODULE ...`, in a session of its own: a terminal's Ctrl-C does not reach it.

    It runs in `directory`, where no `.env` of the user's is, and sees none of the user's
    WORKER_ and TRAIN_ variables. Owned by the main thread.

    Args:
        module: The package to run.
        arguments: Its arguments.
        variables: What its environment has besides the user's own.
        directory: Its working directory.
        log: File for what it prints; written anew.
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
        # torch makes its cache's folder in the temporary directory, and leaves it there.
        variables = {"TORCHINDUCTOR_CACHE_DIR": str(directory / "torch"), **variables}
        with log.open("wb") as output:
            self._program = KeptProgram(
                command, log=output, directory=directory, environment=environment(variables)
            )

    def code(self) -> int | None:
        """Its exit code, 128 + N where signal N ended it; None while it runs."""
        return self._program.code()

    def stop(self, grace: float, *, meanwhile: Callable[[], object] | None = None) -> int | None:
        """SIGTERM, and SIGKILL after `grace` seconds; its exit code, None if it was killed.

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
        """Its exit code; calls `look`, which may raise, while it runs."""
        while (code := self.code()) is None:
            look()
            time.sleep(LOOK_SECONDS)
        return code

    def new_lines(self) -> list[str]:
        """The whole lines that its log has got since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()

    def last_words(self) -> str:
        """The last line of its log; of a line in JSON the event."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        fields = as_json(last)
        return str(fields.get("event", last)) if fields else last


def as_json(line: str) -> dict[str, object]:
    """A log line's fields; none for a line that is not JSON."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The user's environment, with our variables in place of theirs."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("WORKER_", "TRAIN_"))}
    # The very packages that run here, also where they run from a checkout that is not installed.
    root = str(Path(worker.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        # Kafka, the demo and its terminal need the cores too: torch's threads wait for each
        # other asleep, not spinning.
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",  # everything is here: no library may ask a hub, or wait for one
        **variables,
    }
