"""What several test processes (pytest-xdist) share: a room that they enter in turns, and what is
made once for all of them."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

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
        make: Makes it. A failure is raised, and the next process tries again.
    """
    path = shared_folder(factory) / name
    done = path.with_name(f"{name}.done")
    with FileLock(path.with_name(f"{name}.lock")):
        if not done.exists():
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

    @contextlib.contextmanager
    def entered(self, *, alone: bool) -> Iterator[None]:
        """Waits for its turn. Whoever waits to be alone keeps newcomers out."""
        with self._door.open("w") as door, self._room.open("w") as room:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(door, fcntl.LOCK_UN)
            yield
