"""What several test processes (pytest-xdist) share: a room that they enter in turns, and what is
made once for all of them."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from filelock import FileLock


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The same directory for all processes of a run."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A path that the first process to ask for it makes, and the others wait for.

    Args:
        factory: pytest's.
        name: Of the path; the same name means the same thing.
        make: Makes it. A failure is raised, and the next process begins again with nothing there.
    """
    path = shared_folder(factory) / name
    done = path.with_name(f"{name}.done")
    with FileLock(path.with_name(f"{name}.lock")):
        if not done.exists():
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            make(path)
            done.touch()
    return path


class Room:
    """Tests are in it together, or one that must have the machine to itself is in it alone.

    Args:
        folder: For two lock files, which all processes of a run share.
    """

    def __init__(self, folder: Path) -> None:
        self._door, self._room = folder / "door.lock", folder / "room.lock"
        self._inside: BinaryIO | None = None

    def enter(self, *, alone: bool) -> None:
        """Waits for its turn. Whoever waits to be alone keeps newcomers out.

        Who is inside, and enters again, stays inside.
        """
        if self._inside is not None:
            return
        room = self._room.open("wb")
        with self._door.open("wb") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._inside = room

    def leave(self) -> None:
        if self._inside is not None:
            self._inside.close()  # which gives the lock back
            self._inside = None
