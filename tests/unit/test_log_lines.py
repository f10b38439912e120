"""Logs whose reader stalls, or is gone."""

import fcntl
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import termios

import pytest

from tests.conftest import ROOT
from tests.support.kafka_helpers import wait_until
from worker.log_lines import MOST_BYTES, LogLines

MANY = 40_000
PADDING = 2 * MOST_BYTES // MANY
"""Bytes of each of so many lines, so that they are twice what is kept."""

LOGS = """
import sys, threading, time
import structlog
from worker import logs
from worker.watchdog import end_at_once

logs.configure(format="json", level="info")
log = structlog.get_logger("worker.test")
for number in range({lines}):
    log.info("line", number=number, padding="x" * {padding})
print("logged", flush=True)
{then}
"""


def program(lines, then="", padding=0):
    text = LOGS.format(lines=lines, then=then, padding=padding)
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_pipe_that_other_processes_write_to_never_blocks_and_theirs_stays_as_it_was():
    """Between the look for room and the write another may take the room."""
    read, write = os.pipe()
    handler = LogLines(write)
    try:
        assert (os.get_blocking(handler._file), os.get_blocking(write)) == (False, True)
        handler.emit(logging.makeLogRecord({"msg": "a line"}))
        assert os.read(read, 100) == b"a line\n"
    finally:
        for descriptor in (read, write, handler._file):
            os.close(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize(("then", "code"), [("end_at_once(3)", 3), ("sys.exit(4)", 4), ("", 0)])
def test_a_reader_that_stalls_keeps_neither_the_threads_nor_the_exit(then, code):
    with program(5_000, then) as process:
        assert process.stdout.readline() == "logged\n"
        assert process.wait(30) == code


@pytest.mark.parametrize("then", ["end_at_once(0)", "sys.exit(0)", ""])
def test_every_line_is_there_in_order_however_the_process_ends(then):
    with program(500, then) as process:
        _, err = process.communicate(timeout=50)
    assert [json.loads(line)["number"] for line in err.splitlines()] == list(range(500))
    assert process.returncode == 0


def test_lines_that_were_dropped_are_counted_once_the_reader_goes_on():
    with program(MANY, "sys.stdin.readline()", PADDING) as process:
        assert process.stdout.readline() == "logged\n"
        _, err = process.communicate("go on\n", timeout=50)
    lines = [json.loads(line) for line in err.splitlines()]
    dropped = sum(line["lines"] for line in lines if line["event"] == "log_lines_dropped")
    written = sum(line["event"] == "line" for line in lines)
    assert dropped > 0
    assert written + dropped == MANY


def test_a_reader_that_is_gone_is_no_error():
    with program(10, 'sys.stdin.readline(); log.info("more"); sys.exit(0)') as process:
        process.stderr.close()
        out, _ = process.communicate("go on\n", timeout=50)
    assert (process.returncode, out) == (0, "logged\n")


def test_a_character_that_cannot_be_encoded_loses_no_line():
    with program(1, r'log.info("odd \ud800 text"); log.info("next")') as process:
        _, err = process.communicate(timeout=50)
    assert [json.loads(line)["event"] for line in err.splitlines()][2:] == ["next"]


def unread(pipe):
    """Bytes that wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_line_before_a_crash_is_there(number):
    then = f"import os; log.info('last'); os.kill(os.getpid(), {int(number)})"
    with program(0, then) as process:
        _, err = process.communicate(timeout=50)
    assert process.returncode == -number
    assert '"event": "last"' in err


def test_a_finalizer_that_logs_while_a_line_is_taken_blocks_nobody():
    then = """
import gc
class Told:
    def __init__(self): self.own = self
    def __del__(self): log.info("finalized")
gc.set_threshold(5)
for number in range(3_000):
    Told()
    log.info("more")
end_at_once(7)
"""
    with program(0, then) as process:
        _, err = process.communicate(timeout=50)
    assert process.returncode == 7
    assert err.count("finalized") > 100


def test_a_descriptor_that_does_not_block_loses_nothing():
    then = "import os; os.set_blocking(2, False)"
    with program(0, then + "\nfor n in range(3_000): log.info('line', number=n)") as process:
        wait_until(lambda: unread(process.stderr) > 60_000, 30, "the pipe is full")
        _, err = process.communicate(timeout=50)
    assert err.count('"event": "line"') == 3_000


@pytest.mark.slow
def test_what_is_said_at_the_end_waits_for_no_reader_for_long():
    then = "from worker.log_lines import say; say('the end'); os._exit(5)"
    with program(5_000, f"import os; {then}") as process:
        assert process.wait(30) == 5
