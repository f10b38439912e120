"""A simulated device that several processes share: one call of the model at a time."""

import contextlib
import fcntl
import os
import time


class SharedDevice:
    """One lock for all processes that name the same file; the system frees it when one is killed.

    As on a GPU without MPS: a process that computes has it for itself, and the others wait.
    """

    def __init__(self, path):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)

    def compute(self, seconds):
        """Takes so long, alone; the interpreter's lock is free meanwhile."""
        with self._alone():
            time.sleep(seconds)

    @contextlib.contextmanager
    def _alone(self):
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
