"""The token budget: the smallest batch near the best rate, and none that takes too long."""

import pytest

from tests.support.lazy import Lazy
from worker.classifier import BatchLimits

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

budget, classifiers = Lazy("worker.model.budget"), Lazy("worker.model.load")
failures = Lazy("worker.model.failures")


def trials(**seconds):
    return [budget.Trial(int(tokens[1:]), took, took) for tokens, took in seconds.items()]


@pytest.mark.parametrize(
    ("measured", "tokens"),
    [
        ({"t256": 0.064, "t512": 0.1, "t1024": 0.2}, 512),  # no rate above it
        ({"t256": 0.064, "t512": 0.1, "t1024": 0.195}, 512),  # 2.6 % above it
        ({"t256": 0.064, "t512": 0.1, "t1024": 0.19}, 1_024),  # 5 % above it
        ({"t256": 0.1, "t512": 0.15, "t1024": 0.26}, 512),  # the best takes too long
        ({"t128": 0.02, "t256": 0.04, "t512": 0.08, "t1024": 0.16}, 512),  # all the same: not tiny
        ({"t64": 0.1, "t128": 0.2, "t256": 0.4}, 128),  # tiny, where more would take too long
        ({"t64": 0.02, "t128": 0.1, "t512": 0.4}, 64),  # tiny, where more would be slower
        ({"t64": 0.4}, 64),  # so does the smallest, and there is none smaller
        ({"t64": 0.4, "t128": 0.5}, 64),
    ],
)
def test_the_smallest_batch_near_the_best_rate_is_chosen(measured, tokens):
    assert budget.choice(trials(**measured), max_seconds=0.25).tokens == tokens


class Device:
    """A classifier whose batches take a time of their own, and the first of a size a longer one."""

    def __init__(self, monkeypatch, *, seconds, cold=0.0, memory=2**30):
        self.ran = []
        self.time, self.cold, self.memory = seconds, cold, memory
        monkeypatch.setattr("worker.model.budget.timed", self.timed)

    def timed(self, _, rows):
        tokens = sum(map(len, rows))
        if tokens > self.memory:
            raise failures.InferenceError("oom", "out of device memory")
        took = self.time(tokens) + (0.0 if tokens in self.ran else self.cold)
        self.ran.append(tokens)
        return took, took


@pytest.fixture(scope="module")
def model(untrained):
    return classifiers.load(path=untrained, device="cpu", dtype="float32", rows="packed")


def measured(model, max_seconds=0.25):
    found = budget.measured(model, max_seconds=max_seconds)
    return found, budget.limits(found, max_seconds=max_seconds)


@pytest.mark.parametrize("cold", [0.0, 0.05, 0.4])
def test_a_device_with_a_fixed_price_for_each_batch_gets_larger_ones(model, monkeypatch, cold):
    Device(monkeypatch, seconds=lambda tokens: 0.002 + tokens * 1e-6, cold=cold)
    found, limits = measured(model)
    best = max(trial.rate for trial in found)
    assert limits == BatchLimits(max_records=8_192, max_tokens=65_536)
    assert 0.97 <= next(t.rate for t in found if t.tokens == 65_536) / best < 1


def test_a_device_without_one_gets_the_smallest_and_is_not_asked_for_larger_ones(
    model, monkeypatch
):
    device = Device(monkeypatch, seconds=lambda tokens: tokens * 1e-6)
    found, limits = measured(model)
    assert limits == BatchLimits(max_records=64, max_tokens=512)
    assert [trial.tokens for trial in found] == [64, 128, 256, 512]
    assert max(device.ran) <= 512


def test_no_batch_takes_longer_than_it_may(model, monkeypatch):
    Device(monkeypatch, seconds=lambda tokens: 0.1 + tokens * 1e-4)
    found, limits = measured(model, max_seconds=0.2)
    assert limits.max_tokens == 512
    assert found[-1].tokens == 1_024, "it is not tried further than the first that is too long"


def test_a_batch_without_memory_ends_the_search_and_no_more(model, monkeypatch):
    Device(monkeypatch, seconds=lambda tokens: 0.01 + tokens * 1e-6, memory=2_000)
    _, limits = measured(model)
    assert limits.max_tokens == 1_024


def test_a_device_that_runs_nothing_has_no_limits(model, monkeypatch):
    Device(monkeypatch, seconds=lambda _: 1.0, memory=0)
    assert measured(model) == ([], None)


def test_a_busy_moment_in_one_sweep_does_not_count(model, monkeypatch):
    calls = iter(range(1_000))

    def seconds(tokens):
        return (0.002 + tokens * 1e-6) * (3.0 if next(calls) in (3, 4, 5) else 1.0)

    Device(monkeypatch, seconds=seconds)
    found, _ = measured(model)
    rates = [trial.rate for trial in found]
    assert rates == sorted(rates)


def test_a_machine_that_is_busy_does_not_make_batches_tiny():
    """Each takes ten times as long as it would alone."""
    tried = [budget.Trial(64 * 2**n, 0.1 * 2**n, 0.01 * 2**n) for n in range(6)]
    assert budget.choice(tried, max_seconds=0.25).tokens == 512


def test_on_a_cpu_what_a_batch_takes_at_least_is_its_processor_time(model):
    took, least = budget.timed(model, [model.filler(20)] * 64)
    assert 0 < least <= took


def test_loading_measures_only_where_it_is_asked_to(untrained):
    limits = classifiers.load(path=untrained, device="cpu", dtype="float32").limits
    assert limits == BatchLimits(max_records=256, max_tokens=2_048)
    measured = classifiers.load(path=untrained, device="cpu", dtype="float32", max_seconds=0.25)
    assert measured.limits.max_tokens in {64 * 2**power for power in range(13)}
    assert measured.limits.max_records == measured.limits.max_tokens // 8
