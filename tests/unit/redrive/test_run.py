"""What the command returns when it was asked to stop."""

from contextlib import nullcontext

import pytest

from worker.errors import EXIT_DRAINED, EXIT_INTERRUPTED, Transient
from worker.redrive import run
from worker.redrive.options import RedriveSettings


class Job:
    left = 0
    limit_reached = False

    def __init__(self, *, done, failure=None):
        self.done, self.failure = done, failure
        self.ran = False

    def open(self, *, preview):
        pass

    def run(self):
        self.ran = True
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def redriven(monkeypatch):
    def code(job, *, asked):
        class Stop:
            asked = property(lambda _: asked and job.ran)

        monkeypatch.setattr(run, "Stop", lambda: nullcontext(Stop()))
        monkeypatch.setattr(run, "_prepared", lambda *_: job)
        return run.redrive(RedriveSettings())

    return code


def test_one_that_was_stopped_in_its_last_transaction_is_not_done(redriven, capsys):
    """All is read then, and nobody knows whether it is committed."""
    job = Job(done=True, failure=Transient("the broker is away"))
    assert redriven(job, asked=True) == EXIT_INTERRUPTED
    assert "whether the last transaction counts is not known" in capsys.readouterr().err


def test_one_that_was_stopped_when_all_was_committed_is_done(redriven):
    assert redriven(Job(done=True), asked=True) == EXIT_DRAINED


def test_one_that_was_stopped_before_the_end_is_interrupted(redriven):
    assert redriven(Job(done=False), asked=True) == EXIT_INTERRUPTED
