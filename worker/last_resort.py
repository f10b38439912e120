"""Ends the process although none of its threads runs Python: a library may hang with the GIL.

Only the system can do that, by a timer that the running process puts off. But a timer also runs out
while the whole process is stopped, and then it must end nothing. So there are two, one after the
other, and no Python is needed between them:

    a timer ──runs out──► the C function `alarm` ──`GRACE` seconds──► SIGALRM ──► traceback, exit

A process that was stopped runs again before its alarm: it calls the alarm off.

The traceback may find no room: a socket, or a pipe of another user that cannot be opened anew, is
full and holds the thread that writes. So the timer runs out again after `GRACE` and `AGAIN`
seconds, for a second alarm. faulthandler writes no second traceback beside one that it is writing:
the process exits.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import stat

GRACE = 30
"""Seconds from the timer to the end: how long a process may take after a pause to run Python."""
AGAIN = 1
"""Seconds between the first alarm and the timer that asks for the second: less would put the first
off, as there is one alarm in a process."""
EXIT_HUNG = int(signal.SIGALRM)
"""The exit code: the C function `_exit` is the signal's handler, which gets the signal's number."""

_CLOCK_MONOTONIC = 1
_SIGEV_THREAD = 2


class _SigEvent(ctypes.Structure):
    """`struct sigevent` of Linux, for a function that the C library calls on a thread."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_byte * 32),
    )


class _ITimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class LastResort:
    """The two timers of this process. Called by one thread at a time.

    Where the C library lacks the timer (it is no Linux), the process has no last resort.
    """

    def __init__(self) -> None:
        self._timer: ctypes.c_void_p | None = None
        self._library: ctypes.CDLL | None = None
        self._listening = False
        self._told_to = 2

    def put_off(self, seconds: float) -> None:
        """The process ends after `seconds` and `GRACE` more, unless this is called again.

        To be called well within `GRACE`: a timer that has just run out may ask for its alarm a
        moment after this call. 0 is no time at all: nothing ends the process any more.
        """
        if self._timer is None:
            self._timer = self._made()
        self._set(seconds)
        signal.alarm(0)
        if (seconds > 0) is not self._listening:
            self._listen(on=seconds > 0)

    def _made(self) -> ctypes.c_void_p | None:
        library = self._library = _with_timers()
        if library is None:
            return None
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        self._told_to = _never_full(2)
        event = _SigEvent(value=GRACE, notify=_SIGEV_THREAD, function=_address(library, "alarm"))
        timer = ctypes.c_void_p()
        made = library.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer))
        return timer if made == 0 else None

    def _listen(self, *, on: bool) -> None:
        """Sets what an alarm does: ends the process, or nothing."""
        if self._library is None or self._timer is None:
            return
        self._listening = on
        if on:
            # The order matters: faulthandler writes every thread's traceback, then calls the
            # handler that it has found.
            self._library.signal(signal.SIGALRM, _address(self._library, "_exit"))
            faulthandler.register(signal.SIGALRM, file=self._told_to, all_threads=True, chain=True)
        else:
            faulthandler.unregister(signal.SIGALRM)
            self._library.signal(signal.SIGALRM, int(signal.SIG_IGN))

    def _set(self, seconds: float) -> None:
        if self._library is not None and self._timer is not None:
            whole = int(seconds)
            spec = _ITimerSpec(GRACE + AGAIN, 0, whole, int((seconds - whole) * 1e9))
            self._library.timer_settime(self._timer, 0, ctypes.byref(spec), None)


LAST_RESORT = LastResort()
"""The process's."""


def _with_timers() -> ctypes.CDLL | None:
    for name in (None, "librt.so.1"):  # the second before glibc 2.34
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            library.timer_create, library.timer_settime, library.alarm  # noqa: B018 - looked up
            return library
    return None


def _never_full(file: int) -> int:
    """A descriptor of the same file whose writes fail, rather than wait, while a pipe is full.

    The same one where it is no pipe, or another user's, which may not be opened: then a second
    alarm ends what waits.
    """
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            # Opened anew: the flag of the old one is every other process's, too.
            return os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK)
    return file


def _address(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
