"""Seconds of the steps of a start."""

from worker.laps import Laps


def test_each_step_has_the_seconds_since_the_one_before(monkeypatch):
    wall, cpu = iter([10.0, 10.5, 12.75]), iter([1.0, 1.25, 3.0])
    monkeypatch.setattr("worker.laps.time.perf_counter", lambda: next(wall))
    monkeypatch.setattr("worker.laps.time.process_time", lambda: next(cpu))
    laps = Laps()
    laps.lap("import")
    laps.lap("weights")
    assert laps.seconds == {"import": 0.5, "weights": 2.25}
    assert laps.cpu_seconds == {"import": 0.25, "weights": 1.75}
