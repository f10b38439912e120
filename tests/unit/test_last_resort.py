"""What ends a process in which no Python runs any more, and does not end one that was stopped."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from worker.last_resort import EXIT_HUNG

HOLDS_THE_LOCK = """
import ctypes, threading
from worker import last_resort

last_resort.GRACE = 1
last_resort.LAST_RESORT.put_off(0.5)
{then}
hang = threading.Thread(target=lambda: ctypes.PyDLL(None).sleep({seconds}), name="model")
hang.start()
hang.join()
print("came back")
"""

FULL_PIPE = """
import fcntl, os
size = fcntl.fcntl(2, fcntl.F_GETPIPE_SZ)
os.write(2, b"x" * size)
"""

FULL_SOCKET = """
import os, socket
with socket.socket(fileno=os.dup(2)) as end:
    end.setblocking(False)
    try:
        while True:
            end.send(b"x" * 4096)
    except BlockingIOError:
        end.setblocking(True)
"""

ANOTHERS_PIPE = """
import ctypes, os, threading
from worker import last_resort
os.fchmod(2, 0)  # as the owner who is not root, it may not be opened
if os.geteuid() == 0:
    os.setuid(65534)
try:
    os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK)
except PermissionError:
    print("may not be opened", flush=True)
"""

IS_STOPPED = """
import sys, time
from worker import last_resort

last_resort.GRACE = 2
last_resort.LAST_RESORT.put_off(0.2)
print("armed", flush=True)
sys.stdin.readline()
for _ in range(25):
    last_resort.LAST_RESORT.put_off({then})
    time.sleep(0.1)
print("alive")
"""


LATE_ALARM = """
import signal, time
from worker.last_resort import LAST_RESORT

LAST_RESORT.put_off(60)
LAST_RESORT.put_off(0)
signal.setitimer(signal.ITIMER_REAL, 0.05)  # as a timer that ran out just before
time.sleep(0.3)
LAST_RESORT.put_off({then})
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.3)
print("alive")
"""


LATE_TIMER = """
import time
from worker import last_resort

last_resort.GRACE = 1
last_resort.LAST_RESORT.put_off(0.1)
time.sleep(0.6)  # it has run out, and asked for the alarm
last_resort.LAST_RESORT.put_off({then})
time.sleep(3.5)
print("alive")
"""


def program(text):
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("seconds", "then", "code", "said"),
    [
        (60, "", EXIT_HUNG, "most recent call first"),
        (3, "last_resort.LAST_RESORT.put_off(0)", 0, "came back"),
    ],
)
def test_a_library_that_keeps_the_interpreters_lock_cannot_keep_the_process(
    seconds, then, code, said
):
    ended = subprocess.run(
        program(HOLDS_THE_LOCK.format(seconds=seconds, then=then)), cwd=ROOT, timeout=50,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == code
    assert said in ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("then", [60, 0])
def test_a_process_that_was_stopped_longer_than_its_last_resort_lives_on(then):
    with subprocess.Popen(
        program(IS_STOPPED.format(then=then)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as stopped:
        assert stopped.stdout.readline() == "armed\n"
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
            subprocess.run(["sleep", "3"], check=True)  # longer than both timers together
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        said, _ = stopped.communicate("go on\n", timeout=50)
    assert (stopped.returncode, said) == (0, "alive\n")


@pytest.mark.parametrize(("then", "code"), [(0, 0), (60, EXIT_HUNG)])
def test_an_alarm_that_comes_after_all_is_called_off_ends_nothing(then, code):
    ended = subprocess.run(
        program(LATE_ALARM.format(then=then)), cwd=ROOT, timeout=50, capture_output=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == code


def test_a_full_pipe_that_nobody_reads_cannot_keep_the_process():
    text = FULL_PIPE + HOLDS_THE_LOCK.format(seconds=60, then="")
    with subprocess.Popen(program(text), cwd=ROOT, stderr=subprocess.PIPE) as hung:
        assert hung.wait(50) == EXIT_HUNG


@pytest.mark.slow
def test_anothers_full_pipe_that_nobody_reads_cannot_keep_the_process():
    text = FULL_PIPE + ANOTHERS_PIPE + HOLDS_THE_LOCK.format(seconds=60, then="")
    with subprocess.Popen(
        program(text), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as hung:
        assert hung.stdout.readline() == "may not be opened\n"
        try:
            assert hung.wait(20) == EXIT_HUNG
        finally:
            hung.kill()


@pytest.mark.slow
def test_a_full_socket_that_nobody_reads_cannot_keep_the_process():
    text = FULL_SOCKET + HOLDS_THE_LOCK.format(seconds=60, then="")
    reader, writer = socket.socketpair()
    with reader, subprocess.Popen(program(text), cwd=ROOT, stderr=writer) as hung:
        writer.close()
        try:
            assert hung.wait(20) == EXIT_HUNG
        finally:
            hung.kill()


@pytest.mark.slow
@pytest.mark.parametrize("then", [60, 0])
def test_a_process_whose_first_alarm_is_called_off_sees_no_second_one(then):
    """The timer runs out every two seconds unless it is set anew."""
    text = LATE_TIMER.format(then=then)
    ended = subprocess.run(
        program(text), cwd=ROOT, timeout=50, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr
