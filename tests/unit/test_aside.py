"""A step on a thread of its own: what it returns or raises arrives, unless a signal comes first."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from worker.aside import Aside
from worker.signals import DrainSignals, StoppedEarly


def test_the_result_is_what_the_step_returns_on_another_thread():
    step = Aside(threading.get_ident, name="step")
    step.start()
    assert step.result() != threading.get_ident()
    assert not step.under_way


def test_a_signal_ends_the_wait_and_not_the_step():
    """What a library does in the middle of a step, as to start a thread, is done to its end."""
    gate, seen = threading.Event(), []

    def body():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            gate.wait()
        except BaseException as error:
            seen.append(error)
            raise

    with DrainSignals() as signals:
        signals.heeded()
        step = Aside(body, name="step")
        step.start()
        with pytest.raises(StoppedEarly):
            step.result(stopped=lambda: signals.asked)
        assert step.under_way
        gate.set()
        assert step.result() is None
    assert seen == []


def test_a_signal_counts_although_the_step_is_done():
    step = Aside(lambda: 1, name="step")
    step.start()
    assert step.result() == 1
    with pytest.raises(StoppedEarly):
        step.result(stopped=lambda: True)


INTERRUPTED = """
import os, signal, threading
from worker.signals import DrainSignals

signals = DrainSignals()
with signals:
    HEEDED
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("went on", flush=True)
print(signals.asked, signals.hurried)
"""


@pytest.mark.parametrize(
    ("heeded", "out", "err"),
    [
        ("", "", "emotion-worker: stopped before it had started\n"),
        ("signals.heeded()", "went on\nTrue False\n", ""),
    ],
)
def test_a_signal_ends_the_process_until_somebody_heeds_it(heeded, out, err):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.replace("HEEDED", heeded)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, out, err)
