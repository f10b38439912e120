"""The token budget: the smallest batch near the best rate, and none that takes too long."""

import pytest

from tests.support.lazy import Lazy
from worker.classifier import BatchLimits

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

budget, classifiers = Lazy("worker.model.budget"), Lazy("worker.model.load")
failures = Lazy("worker.model.failures")


def trials(**seconds):
    return [budget.Trial(int(tokens[1:]), took) for tokens, took in seconds.items()]


@pytest.mark.parametrize(
    ("measured", "tokens"),
    [
        ({"t256": 0.064, "t512": 0.1, "t1024": 0.2}, 512),  # no rate above it
        ({"t256": 0.064, "t512": 0.1, "t1024": 0.195}, 512),  # 2.6 % above it
        ({"t256": 0.064, "t512": 0.1, "t1024": 0.19}, 1_024),  # 5 % above it
        ({"t256": 0.1, "t512": 0.15, "t1024": 0.26}, 512),  # the best takes too long
        ({"t64": 0.02, "t128": 0.04, "t256": 0.08, "t512": 0.16}, 256),  # all the same: not tiny
        ({"t64": 0.1, "t128": 0.2, "t256": 0.4}, 128),  # tiny, where more would take too long
        ({"t64": 0.02, "t128": 0.1, "t256": 0.2}, 64),  # tiny, where more would be slower
        ({"t64": 0.4}, 64),  # so does the smallest, and there is none smaller
        ({"t64": 0.4, "t128": 0.5}, 64),
    ],
)
def test_the_smallest_batch_near_the_best_rate_is_chosen(measured, tokens):
    assert budget.choice(trials(**measured), max_seconds=0.25).tokens == tokens


class Device:
    """A classifier whose batches take a time of their own, by a clock that only they move."""

    def __init__(self, model, monkeypatch, *, seconds, memory=2**30):
        self.ran, self.now = [], 0.0
        self.seconds, self.memory = seconds, memory
        monkeypatch.setattr(model, "run", self.run)
        monkeypatch.setattr("worker.model.budget.time.perf_counter", lambda: self.now)

    def run(self, rows):
        tokens = sum(map(len, rows))
        self.ran.append(tokens)
        if tokens > self.memory:
            raise failures.InferenceError("oom", "out of device memory")
        self.now += self.seconds(tokens)


@pytest.fixture(scope="module")
def model(untrained):
    return classifiers.load(path=untrained, device="cpu", dtype="float32", rows="packed")


def calibrated(model, max_seconds=0.25):
    found = budget.calibrated(model, max_seconds=max_seconds)
    return found, model.limits


def test_a_device_with_a_fixed_price_for_each_batch_gets_larger_ones(model, monkeypatch):
    Device(model, monkeypatch, seconds=lambda tokens: 0.002 + tokens * 1e-6)
    found, limits = calibrated(model)
    best = max(trial.rate for trial in found)
    assert limits == BatchLimits(max_records=8_192, max_tokens=65_536)
    assert 0.97 <= next(t.rate for t in found if t.tokens == 65_536) / best < 1


def test_a_device_without_one_gets_the_smallest_and_is_not_asked_for_larger_ones(
    model, monkeypatch
):
    device = Device(model, monkeypatch, seconds=lambda tokens: tokens * 1e-6)
    found, limits = calibrated(model)
    assert limits == BatchLimits(max_records=32, max_tokens=256)
    assert [trial.tokens for trial in found] == [64, 128, 256]
    assert max(device.ran) <= 256


def test_no_batch_takes_longer_than_it_may(model, monkeypatch):
    Device(model, monkeypatch, seconds=lambda tokens: 0.1 + tokens * 1e-4)
    found, limits = calibrated(model, max_seconds=0.2)
    assert limits.max_tokens == 512
    assert found[-1].tokens == 1_024, "it is not tried further than the first that is too long"


def test_a_batch_without_memory_ends_the_search_and_no_more(model, monkeypatch):
    Device(model, monkeypatch, seconds=lambda tokens: 0.01 + tokens * 1e-6, memory=2_000)
    _, limits = calibrated(model)
    assert limits.max_tokens == 1_024


def test_a_device_that_runs_nothing_keeps_what_it_had_and_the_warm_up_says_why(model, monkeypatch):
    Device(model, monkeypatch, seconds=lambda _: 1.0, memory=0)
    before = model.limits
    found, limits = calibrated(model)
    assert (found, limits) == ([], before)


def test_a_busy_moment_in_one_sweep_does_not_count(model, monkeypatch):
    calls = iter(range(1_000))

    def seconds(tokens):
        return (0.002 + tokens * 1e-6) * (3.0 if next(calls) in (3, 4, 5) else 1.0)

    Device(model, monkeypatch, seconds=seconds)
    found, _ = calibrated(model)
    rates = [trial.rate for trial in found]
    assert rates == sorted(rates)


def test_loading_measures_only_where_it_is_asked_to(untrained):
    limits = classifiers.load(path=untrained, device="cpu", dtype="float32").limits
    assert limits == BatchLimits(max_records=256, max_tokens=2_048)
    measured = classifiers.load(path=untrained, device="cpu", dtype="float32", max_seconds=0.25)
    assert measured.limits.max_tokens in {64 * 2**power for power in range(13)}
    assert measured.limits.max_records == measured.limits.max_tokens // 8
