"""The metrics of several processes as one exposition."""

import http.client
import threading
import time
from collections import Counter as Count

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, openmetrics
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

from worker.endpoints import Endpoints
from worker.processes.merge import Merged, merged, scraped
from worker.processes.metrics import ProcessMetrics


def child(records, *, more=False):
    """What a child answers."""
    registry = CollectorRegistry()
    Counter("worker_records", "Records.", ["topic"], registry=registry).labels("t").inc(records)
    Histogram("worker_seconds", "Time.", registry=registry, buckets=(1, 2)).observe(1.5)
    Info("worker_model", "The model.", registry=registry).info({"name": 'a "quoted" \\ name'})
    if more:
        Gauge("worker_more", "More.", registry=registry).set(float("nan"))
    return generate_latest(registry).decode()


class Probes:
    def live(self):
        return None

    ready = live


class Server:
    """The supervisor's endpoints over children that a test makes up."""

    def __init__(self, answers):
        self.metrics = ProcessMetrics(len(answers))
        self.endpoints = Endpoints(
            host="127.0.0.1", port=0, health=Probes(),
            registry=Merged(
                scrape=lambda: answers, labelled=self.metrics.labelled, own=self.metrics.own,
                answered=self.metrics.answered,
            ),
        )  # fmt: skip

    def __enter__(self):
        self.endpoints.start()
        return self

    def __exit__(self, *_):
        self.endpoints.close()

    def get(self, path="/metrics", **headers):
        link = http.client.HTTPConnection("127.0.0.1", self.endpoints.port, timeout=10)
        link.request("GET", path, headers=headers)
        answer = link.getresponse()
        body = answer.read()
        link.close()
        return answer.headers["Content-Type"], body.decode()


OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.mark.parametrize(("headers", "parse"), [({}, plain), (OPEN, strict)])
def test_every_family_is_named_once_and_every_sample_says_its_process(headers, parse):
    with Server({1: child(3), 2: child(4, more=True)}) as server:
        kind, body = server.get(**headers)
    assert kind.startswith(headers.get("Accept", "text/plain").partition(";")[0])
    lines = body.splitlines()
    named = Count(line.split()[2] for line in lines if line.startswith("# TYPE"))
    assert set(named.values()) == {1}
    samples = [s for family in parse(body) for s in family.samples]
    found = {(s.name, s.labels.get("process")): s for s in samples}
    assert len(found) <= len(samples)
    assert found["worker_records_total", "1"].value == 3
    assert found["worker_records_total", "2"].value == 4
    assert found["worker_records_total", "2"].labels == {"topic": "t", "process": "2"}
    assert found["worker_model_info", "1"].labels["name"] == 'a "quoted" \\ name'
    assert ("worker_more", "1") not in found
    assert found["process_start_time_seconds", "supervisor"].value > 0
    assert {s.name for s in samples if "process" not in s.labels} == {"worker_processes"}
    buckets = [s for s in samples if s.name == "worker_seconds_bucket"]
    assert [(s.labels["process"], s.value) for s in buckets] == [
        (process, count) for process in "12" for count in (0, 1, 1)
    ]


def test_one_child_s_metrics_are_what_it_answered():
    text = child(3)
    before = {(s.name, *s.labels.items(), s.value) for f in strict(text) for s in f.samples}
    after = {
        (s.name, *(item for item in s.labels.items() if item[0] != "process"), s.value)
        for f in merged({"1": strict(text)})
        for s in f.samples
    }
    assert after == before


def test_a_child_that_does_not_answer_is_down_and_the_others_are_there():
    with Server({1: None, 2: child(4), 3: "half an ans"}) as server:
        _, body = server.get()
    found = {(s.name, s.labels.get("process")): s.value for f in plain(body) for s in f.samples}
    assert [found["worker_process_up", number] for number in "123"] == [0, 1, 0]
    assert found["worker_records_total", "2"] == 4
    assert ("worker_records_total", "1") not in found
    assert [found["worker_process_restarts_total", number] for number in "123"] == [0, 0, 0]
    assert found["worker_processes", None] == 3


def test_restarts_are_counted_by_process():
    with Server({1: None, 2: None}) as server:
        server.metrics.restarted(2)
        _, body = server.get("/metrics?name[]=worker_process_restarts_total")
    lines = [line for line in body.splitlines() if not line.startswith("#")]
    assert lines == [
        'worker_process_restarts_total{process="1"} 0.0',
        'worker_process_restarts_total{process="2"} 1.0',
    ]


def test_an_exposition_can_be_asked_for_some_names_only():
    with Server({1: child(3), 2: child(4)}) as server:
        _, body = server.get("/metrics?name[]=worker_records_total&name[]=worker_processes")
    names = {line.partition("{")[0].split()[0] for line in body.splitlines() if line[0] != "#"}
    assert names == {"worker_records_total", "worker_processes"}


def test_a_family_of_another_type_is_left_out():
    registry = CollectorRegistry()
    Gauge("worker_records", "Another kind.", registry=registry).set(7)
    found = merged({"1": strict(child(3)), "2": registry.collect()})
    (family,) = [each for each in found if each.name == "worker_records"]
    assert family.type == "counter"
    assert {sample.labels["process"] for sample in family.samples} == {"1"}


def test_one_that_hangs_delays_nobody_beyond_the_time():
    over = threading.Event()
    began = time.monotonic()
    found = scraped(
        {1: 10, 2: 20, 3: None}, lambda port: over.wait(30) and "" if port == 10 else "two",
        seconds=0.2,
    )  # fmt: skip
    assert time.monotonic() - began < 10
    over.set()
    assert found == {1: None, 2: "two", 3: None}


def test_all_are_asked_at_once():
    together = threading.Barrier(3, timeout=10)

    def ask(port):
        together.wait()
        return str(port)

    assert scraped({1: 10, 2: 20, 3: 30}, ask) == {1: "10", 2: "20", 3: "30"}


def test_the_children_are_asked_in_a_format_that_they_speak():
    from worker.processes.merge import OPEN_METRICS

    assert openmetrics.exposition.CONTENT_TYPE_LATEST.startswith(OPEN_METRICS)
