"""The end of the worker's process after a failure."""

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from tests.support.lazy import Lazy
from worker.errors import DeviceLost, Fatal
from worker.settings import Settings

service = Lazy("worker.service")


class Pipeline:
    """Fails at once; its threads end."""

    last_words = 0.5

    def __init__(self, done, failure):
        self.done, self.error = done, failure

    def failure(self, timeout):
        return self.error

    def abort(self):
        self.done.append("abort")

    def join(self, timeout):
        self.done.append("join")
        return True


class Ended(BaseException):
    """The process is gone."""


def run(monkeypatch, failure):
    """What was done, the exit code, and what was logged."""
    done = []

    def end_at_once(code):
        done.append("end at once")
        raise Ended(code)

    monkeypatch.setattr("worker.service.end_at_once", end_at_once)
    health = SimpleNamespace(draining=False)
    signals = SimpleNamespace(asked=False, hurried=False)
    with capture_logs() as logs:
        try:
            code = service._run(
                Pipeline(done, failure), signals, health, Settings(),
                last_scrape=lambda **_: done.append("scrape"),
            )  # fmt: skip
        except Ended as ended:
            (code,) = ended.args
    return done, code, [line["event"] for line in logs]


def test_a_lost_gpu_is_logged_and_shown_and_the_process_ends_without_being_torn_down(monkeypatch):
    done, code, lines = run(monkeypatch, DeviceLost("CUDA error: unspecified launch failure"))
    assert done == ["abort", "join", "scrape", "end at once"]
    assert code == 1
    (line,) = lines
    assert line.startswith("the GPU is lost to this process: CUDA error: unspecified launch failur")


def test_another_failure_is_not_waited_for(monkeypatch):
    assert run(monkeypatch, Fatal("no")) == (["abort", "join"], 1, ["no"])


@pytest.mark.parametrize("stage", ["look", "load"])
def test_a_gpu_that_is_lost_while_the_model_loads_ends_the_process_at_once(monkeypatch, stage):
    def end_at_once(code):
        raise Ended(code)

    def lost(*_):
        raise DeviceLost("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr("worker.service.end_at_once", end_at_once)
    monkeypatch.setattr("worker.service._serve", lost)
    signals = SimpleNamespace(heeded=lambda: None)
    with pytest.raises(Ended) as ended, capture_logs() as logs:
        service._code(Settings(), None, signals, lambda _: None)
    assert ended.value.args == (1,)
    assert [line["event"][:30] for line in logs] == ["the GPU is lost to this process"[:30]]
