"""Signals that end a command: none is lost, none tears a clean-up, and each is told in one line."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from train import __main__ as command
from train.errors import Refused
from train.interrupts import AFTERMATH_SECONDS, ECHO_SECONDS, Interrupts, held, saying

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
LINES = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}


class Interrupting:
    """Interrupted while it is being deleted, as a library's object may be."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def nothing_is_printed(monkeypatch):
    """By the hook of last resort, which pytest makes a failure of."""
    seen = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    yield seen
    assert seen == []


@pytest.fixture
def ended(monkeypatch, capsys):
    """Runs a command whose work is a function; returns its exit code and its lines of errors."""

    def run(work):
        monkeypatch.setitem(command._COMMANDS, "run", lambda _: work())
        code = command.main(["run"])
        return code, capsys.readouterr().err

    return run


@BOTH
def test_an_interrupt_that_python_drops_comes_again(number):
    reached = []

    def work():
        Interrupting(number)
        reached.append("the line after the first")
        time.sleep(100)

    began = time.monotonic()
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    assert interrupts.number == number
    assert time.monotonic() - began < 90, "the sleep was slept to its end"


def test_other_dropped_exceptions_go_where_they_went(nothing_is_printed):
    class Broken:
        def __del__(self):
            raise ValueError("of its own")

    with Interrupts():
        Broken()
    assert [type(one.exc_value) for one in nothing_is_printed] == [ValueError]
    nothing_is_printed.clear()


@BOTH
def test_the_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with Interrupts():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


@BOTH
def test_a_signal_that_is_ignored_stays_ignored(number):
    """`nohup`, and what a script starts in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts(), held():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@BOTH
def test_a_signal_ends_a_command_with_one_line_and_a_code_of_its_own(ended, number):
    code, errors = ended(lambda: signal.raise_signal(number))
    assert (code, errors) == (CODES[number], f"emotion-train: {LINES[number]}\n")


@BOTH
@pytest.mark.parametrize("error", [ImportError("no torch"), Refused("cannot be read")])
def test_what_a_torn_library_raises_is_told_as_the_signal(ended, number, error):
    def work():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        # Without a context, as code in C raises it.
        raise error

    code, errors = ended(work)
    assert (code, errors) == (CODES[number], f"emotion-train: {LINES[number]}\n")


@BOTH
def test_an_error_long_after_a_signal_that_a_library_swallowed_is_told_as_itself(number):
    clock = Clock()
    error = Refused("the loss is not a number")
    with Interrupts(clock=clock) as interrupts:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        clock.now += 0.9 * AFTERMATH_SECONDS
        assert interrupts.ended(error)
    with Interrupts(clock=clock) as interrupts:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        clock.now += 1.1 * AFTERMATH_SECONDS
        assert not interrupts.ended(error)
        assert interrupts.ended(KeyboardInterrupt())


def test_an_error_without_a_signal_is_its_own(ended):
    def work():
        raise Refused("cannot be read")

    assert ended(work) == (2, "emotion-train: cannot be read\n")


def test_a_second_signal_is_an_echo_at_first_and_counts_later():
    clock = Clock()
    with Interrupts(clock=clock) as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        clock.now += 0.9 * ECHO_SECONDS
        signal.raise_signal(signal.SIGTERM)
        clock.now += 0.2 * ECHO_SECONDS
        with pytest.raises(KeyboardInterrupt):  # a library may have swallowed the first
            signal.raise_signal(signal.SIGTERM)
    assert interrupts.number == signal.SIGINT


@BOTH
def test_a_signal_waits_for_the_end_of_a_clean_up(number):
    done = []

    def clean_up():
        with held():
            signal.raise_signal(number)
            done.append("all of it")

    with Interrupts(), pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done


@BOTH
def test_signals_while_the_line_is_printed_change_nothing(ended, monkeypatch, number):
    class Struck(io.StringIO):
        def write(self, text):
            signal.raise_signal(number)
            return super().write(text)

    out = Struck()
    monkeypatch.setattr("train.interrupts.ECHO_SECONDS", 0)
    monkeypatch.setattr("sys.stderr", out)
    code, _ = ended(lambda: signal.raise_signal(signal.SIGINT))
    assert (code, out.getvalue()) == (130, "emotion-train: interrupted\n")


def test_a_block_adds_what_somebody_should_know(ended):
    def work(what):
        with saying(lambda: what):
            signal.raise_signal(signal.SIGINT)

    line = "emotion-train: interrupted"
    assert ended(lambda: work("all is saved")) == (130, f"{line}; all is saved\n")
    assert ended(lambda: work("")) == (130, f"{line}\n")


PROGRAM = """
import atexit, os, signal, sys
from train import __main__ as command

def end():
    os.kill(os.getpid(), {number})
    print("the end was reached", file=sys.stderr)

atexit.register(end)
command._COMMANDS["run"] = lambda _: {work}
sys.argv = ["emotion-train", "run"]
sys.exit(command.main())
"""


@BOTH
@pytest.mark.parametrize("interrupted", [True, False])
def test_no_signal_tears_the_end_of_the_process(number, interrupted):
    """Libraries clean up at exit: for seconds, after which a second Ctrl-C gave a traceback."""
    work = f"(print('told'), signal.raise_signal({number:d}))" if interrupted else None
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(number=int(number), work=work)],
        cwd=train.__path__[0] + "/..",
        capture_output=True,
        text=True,
        check=False,
    )
    line = f"emotion-train: {LINES[number]}\n"
    assert (done.returncode, done.stdout, done.stderr) == (
        (CODES[number], "told\n", line) if interrupted else (-number, "", "")
    )


def test_little_is_imported_before_signals_are_caught():
    """A Ctrl-C before that ends in Python's traceback."""
    script = "import sys; import train.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=train.__path__[0] + "/..",
        env={**os.environ, "PYTHONPATH": str(Path(train.__path__[0]).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"pydantic", "pathlib", "json"}.isdisjoint(done.stdout.split())
