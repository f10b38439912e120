"""What a redrive prints where nobody reads it, or only later."""

import fcntl
import os
import sys
import threading
from collections import Counter

import pytest

from worker import log_lines
from worker.redrive import run
from worker.redrive.decisions import Tally
from worker.redrive.progress import Show


@pytest.fixture
def full_pipe(monkeypatch):
    """Replaces a standard stream by a pipe that has no room; gives the end to read."""
    monkeypatch.setattr(log_lines, "FLUSH_SECONDS", 0.05)
    ends = []

    def replaced(name):
        reader, writer = os.pipe()
        os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        ends.extend([os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "w", buffering=1)])
        monkeypatch.setattr(sys, name, ends[-1])
        return ends[-2]

    yield replaced
    for end in ends:
        end.close()


def shown():
    show = Show(tally=Tally(again=Counter(model_failed=3)), dry_run=False)
    with show:
        show.begins(3)
        for number in range(200):
            show.trouble(f"Error{number}")
        show.at(0)
    show.summary(input_topic="in", dlq_topic="dlq")
    return show


def ends(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_standard_output_that_nobody_reads_holds_no_redrive(full_pipe):
    reader = full_pipe("stdout")
    ended = ends(shown)
    reader.close()
    assert ended


def test_standard_error_that_nobody_reads_holds_no_exit(full_pipe):
    reader = full_pipe("stderr")
    ended = ends(lambda: run._tell("interrupted before anything was put back"))
    reader.close()
    assert ended


def test_what_a_late_reader_missed_comes_in_order_before_the_next_line(full_pipe):
    reader = full_pipe("stdout")
    show = shown()
    assert set(reader.read(1 << 20)) == set(b"x")
    show.line("the last")
    lines = reader.read(1 << 20).decode().splitlines()
    assert [line for line in lines if "Error" in line] == [
        f"a transaction failed (Error{number}) and is tried again" for number in range(200)
    ]
    assert lines[-1] == "the last"


def test_a_reader_that_is_gone_is_no_error_of_a_redrive(full_pipe):
    full_pipe("stdout").close()
    shown()
