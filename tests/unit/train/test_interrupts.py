"""Python drops what a `__del__` raises; the user's Ctrl-C must not go that way."""

import signal
import time

import pytest

from train.interrupts import interruptible


class Interrupts:
    """Interrupted while it is being deleted, as a library's object may be."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.fixture(autouse=True)
def nothing_is_printed(monkeypatch):
    """By the hook of last resort, which pytest makes a failure of."""
    seen = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    yield seen
    assert seen == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_drops_comes_again(number):
    reached = []

    def work():
        Interrupts(number)
        reached.append("the line after the first")
        time.sleep(100)

    began = time.monotonic()
    with interruptible(), pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    assert time.monotonic() - began < 90, "the sleep was slept to its end"


def test_other_dropped_exceptions_go_where_they_went(nothing_is_printed):
    class Broken:
        def __del__(self):
            raise ValueError("of its own")

    with interruptible():
        Broken()
    assert [type(one.exc_value) for one in nothing_is_printed] == [ValueError]
    nothing_is_printed.clear()


def test_the_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is before
