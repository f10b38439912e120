"""The connection between the supervisor and one child, open for as long as both live.

    supervisor ──settings and number, then `drain`, then `hurry`──► child
               ◄──port of its HTTP server, the last error it logged──

It is a socket without an address: nothing else can speak on it, and no secret is in a command line.
Its end of file says that the other side has died: a child drains then, so that a supervisor that
was killed leaves nobody behind.

The supervisor asks for a drain here and not by a signal: systemd may have sent SIGTERM to every
process already, and a child takes a second signal as the wish to stop at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.signals import DrainSignals

DRAIN, HURRY = b"d", b"h"
MOST_LETTERS = 4_000
"""Of an error: one line, which the socket has room for at any time."""
_LENGTH_BYTES = 4
_PIECE = 65_536


class SupervisorEnd:
    """The supervisor's end. Owned by its main thread.

    Args:
        settings: Those of the child.
        number: Which child it is, from 1 on.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._unread = b""
        self.port: int | None = None
        """Of the child's HTTP server, once it answers."""
        self.error: str | None = None
        """What the child last logged as an error."""
        # They were validated here: a child that read the environment again might find another.
        start = pickle.dumps((number, settings))
        self._ours.sendall(len(start).to_bytes(_LENGTH_BYTES, "big") + start)
        self._ours.setblocking(False)

    def handed_over(self) -> None:
        """The child has its end: without ours closed, neither would see that the other has died."""
        self.theirs.close()

    def read(self) -> None:
        """Takes what the child has sent by now."""
        with contextlib.suppress(OSError):  # nothing more yet, or its end was not orderly
            while piece := self._ours.recv(_PIECE):
                self._unread += piece
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # it found room for a part only
                said = json.loads(line)
                self.port = said.get("port", self.port)
                self.error = said.get("error", self.error)

    def drain(self) -> None:
        """Asks the child to finish what it has read, and to end."""
        self._send(DRAIN)

    def hurry(self) -> None:
        """Asks a child that drains to stop at once."""
        self._send(HURRY)

    def close(self) -> None:
        """Gives the descriptors back."""
        self._ours.close()
        self.theirs.close()

    def _send(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended, or will be killed at the deadline
            self._ours.send(word)


class ChildEnd:
    """The child's end.

    Args:
        descriptor: Of the socket, inherited from the supervisor.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)  # what a library starts is none of ours
        self._sending = threading.RLock()  # a finalizer may log an error within `_say`

    def settings(self) -> tuple[int, Settings] | None:
        """The child's number and its settings; None: the supervisor has died meanwhile."""
        length = self._received(_LENGTH_BYTES)
        start = self._received(int.from_bytes(length, "big")) if length else b""
        # What can write here is our parent, which has started this very program.
        return pickle.loads(start) if start else None  # noqa: S301

    def heed(self, signals: DrainSignals) -> None:
        """From now on the supervisor's requests, and its death, do what SIGTERM does."""
        threading.Thread(target=self._heed, args=(signals,), name="lifeline", daemon=True).start()

    def listening(self, port: int) -> None:
        """The HTTP server answers at this port."""
        self._say({"port": port})

    def failed(self, error: str) -> None:
        """An error was logged: the supervisor repeats the last one if it has to end."""
        self._say({"error": error})

    def close(self) -> None:
        """Gives the descriptor back."""
        self._socket.close()

    def _heed(self, signals: DrainSignals) -> None:
        while True:
            word = b""
            with contextlib.suppress(ConnectionError):
                word = self._socket.recv(1)
            if word == HURRY:
                signals.hurried = True
            elif not signals.asked:
                os.kill(os.getpid(), signal.SIGTERM)
            if not word:
                return

    def _received(self, count: int) -> bytes:
        """So many bytes; none at the end of file."""
        found = b""
        with contextlib.suppress(ConnectionError):
            while len(found) < count:
                piece = self._socket.recv(count - len(found))
                if not piece:
                    return b""
                found += piece
        return found

    def _say(self, said: dict[str, Any]) -> None:
        line = json.dumps(said).encode() + b"\n"
        # The supervisor has died; or it does not read, and must not hold whoever logs.
        with contextlib.suppress(OSError), self._sending:
            self._socket.send(line, socket.MSG_DONTWAIT)


class Errors(logging.Handler):
    """Sends what is logged as an error to the supervisor.

    Args:
        end: Whose supervisor.
    """

    def __init__(self, end: ChildEnd) -> None:
        super().__init__(logging.ERROR)
        self._end = end

    def emit(self, record: logging.LogRecord) -> None:
        """Sends the line's message, without its fields, and the exception that it tells of."""
        said = record.msg
        text = str(said.get("event", "")) if isinstance(said, dict) else record.getMessage()
        if isinstance(said, dict) and "exception" in said:  # its traceback ends with what it is
            text = f"{text}: {str(said['exception']).splitlines()[-1]}"
        self._end.failed(text[:MOST_LETTERS])
