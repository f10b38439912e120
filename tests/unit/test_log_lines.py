"""Logs whose reader stalls, or is gone."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from worker.log_lines import MOST_LINES

LOGS = """
import sys, threading, time
import structlog
from worker import logs
from worker.watchdog import end_at_once

logs.configure(format="json", level="info")
log = structlog.get_logger("worker.test")
for number in range({lines}):
    log.info("line", number=number)
print("logged", flush=True)
{then}
"""


def program(lines, then=""):
    return subprocess.Popen(
        [sys.executable, "-c", LOGS.format(lines=lines, then=then)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize(("then", "code"), [("end_at_once(3)", 3), ("sys.exit(4)", 4), ("", 0)])
def test_a_reader_that_stalls_keeps_neither_the_threads_nor_the_exit(then, code):
    with program(MOST_LINES // 2, then) as process:
        assert process.stdout.readline() == "logged\n"
        assert process.wait(30) == code


@pytest.mark.parametrize("then", ["end_at_once(0)", "sys.exit(0)", ""])
def test_every_line_is_there_in_order_however_the_process_ends(then):
    with program(500, then) as process:
        _, err = process.communicate(timeout=50)
    assert [json.loads(line)["number"] for line in err.splitlines()] == list(range(500))
    assert process.returncode == 0


def test_lines_that_were_dropped_are_counted_once_the_reader_goes_on():
    with program(2 * MOST_LINES, "sys.stdin.readline()") as process:
        assert process.stdout.readline() == "logged\n"
        _, err = process.communicate("go on\n", timeout=50)
    lines = [json.loads(line) for line in err.splitlines()]
    dropped = sum(line["lines"] for line in lines if line["event"] == "log_lines_dropped")
    written = sum(line["event"] == "line" for line in lines)
    assert dropped > 0
    assert written + dropped == 2 * MOST_LINES


def test_a_reader_that_is_gone_is_no_error():
    with program(10, 'sys.stdin.readline(); log.info("more"); sys.exit(0)') as process:
        process.stderr.close()
        out, _ = process.communicate("go on\n", timeout=50)
    assert (process.returncode, out) == (0, "logged\n")


def test_a_character_that_cannot_be_encoded_loses_no_line():
    with program(1, r'log.info("odd \ud800 text"); log.info("next")') as process:
        _, err = process.communicate(timeout=50)
    assert [json.loads(line)["event"] for line in err.splitlines()][2:] == ["next"]
