"""An error that follows from a Ctrl-C is a Ctrl-C."""

import pytest

from worker.given.interrupts import recognised


def torn(*, chained):
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as interrupt:
        try:
            raise RuntimeError("cannot join thread before it is started")
        except RuntimeError as error:
            raise ImportError("no torch") from (error if chained else interrupt)


@pytest.mark.parametrize("chained", [True, False])
def test_an_error_of_the_cleanup_is_told_as_the_interrupt(chained):
    with pytest.raises(KeyboardInterrupt) as caught, recognised():
        torn(chained=chained)
    assert isinstance(caught.value.__cause__, ImportError)


def test_other_errors_pass_also_with_a_circle_of_causes():
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    with pytest.raises(ValueError, match="first") as caught, recognised():
        raise first
    assert caught.value is first


def test_what_is_no_error_passes():
    with recognised():
        pass
    with pytest.raises(SystemExit), recognised():
        raise SystemExit(2)
