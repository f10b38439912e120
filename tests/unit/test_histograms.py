"""A histogram that takes arrays says what the library's own says."""

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from worker.histograms import BulkHistogram

BOUNDS = (0.005, 0.1, 1.0, 2.5, 60.0)
values = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100))
moods = st.sampled_from(["joy", "fear", "anger"])


def told(registry):
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


@given(st.lists(st.lists(values)))
def test_it_counts_as_the_library_does(batches):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("wait_seconds", "Waits.", buckets=BOUNDS, registry=ours)
    one_by_one = Histogram("wait_seconds", "Waits.", buckets=BOUNDS, registry=theirs)
    for batch in batches:
        bulk.observe(np.array(batch, dtype=float))
        for value in batch:
            one_by_one.observe(value)
    assert apart_from_sums(told(ours)) == apart_from_sums(told(theirs))


@given(st.lists(st.lists(st.tuples(moods, values))))
def test_it_counts_as_the_library_does_by_label(batches):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("score", "Scores.", buckets=BOUNDS, registry=ours, label="label")
    one_by_one = Histogram("score", "Scores.", ["label"], buckets=BOUNDS, registry=theirs)
    numbers = {}
    for batch in batches:
        for label, value in batch:
            if label not in numbers:
                numbers[label] = len(numbers)
                bulk.add_series(label)
            one_by_one.labels(label).observe(value)
        series = np.array([numbers[label] for label, _ in batch], dtype=np.int64)
        bulk.observe(np.array([value for _, value in batch], dtype=float), series)
    assert apart_from_sums(told(ours)) == apart_from_sums(told(theirs))


def apart_from_sums(lines):
    """Sums of floats depend on the order of their terms."""
    parted = [line.rpartition(" ") for line in lines]
    return [
        (name, round(float(value), 6) if "_sum" in name else value) for name, _, value in parted
    ]


def test_a_scrape_beside_it_sees_whole_batches():
    registry = CollectorRegistry()
    bulk = BulkHistogram("wait_seconds", "Waits.", buckets=BOUNDS, registry=registry)
    over = threading.Event()

    def observe():
        while not over.is_set():
            bulk.observe(np.full(10, 0.5))

    thread = threading.Thread(target=observe)
    thread.start()
    try:
        for _ in range(200):
            count = registry.get_sample_value("wait_seconds_count")
            assert count % 10 == 0
            assert registry.get_sample_value("wait_seconds_bucket", {"le": "+Inf"}) >= count
    finally:
        over.set()
        thread.join()
