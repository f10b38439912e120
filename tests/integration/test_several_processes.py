"""Several worker processes under one supervisor, on a real Apache Kafka, with an instant model."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.audit import audit, read_committed
from tests.support.kafka_helpers import (
    Message,
    committed,
    end_offsets,
    produce,
    read_all,
    wait_until,
)
from tests.support.worker_process import WorkerProcess


@pytest.fixture
def several(kafka, topic, tmp_path):
    """A function that makes a supervisor of two on fresh topics; `.topics` are their names."""
    made = []

    def make(*, like=None, **options):
        names = like.topics if like else {
            "input_topic": topic("in", partitions=4),
            "output_topic": topic("out", partitions=4),
            "dlq_topic": topic("dlq"),
        }  # fmt: skip
        worker = WorkerProcess(
            bootstrap=kafka, directory=tmp_path, group=names["input_topic"], **names,
            **{"processes": 2, "kafka__session_timeout": 6, "kafka__heartbeat_interval": 1,
               "kafka__replica_id": "pod", "batch__max_records": 32, **options},
        )  # fmt: skip
        worker.topics = names
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.__exit__()


def feed(kafka, worker, count, *, first=0):
    numbers = range(first, first + count)
    produce(
        kafka,
        worker.topics["input_topic"],
        [
            Message(value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 100))
            for n in numbers
        ],
    )


def wait_all_committed(kafka, worker, timeout=120):
    name = worker.topics["input_topic"]
    wait_until(
        lambda: worker.alive() and committed(kafka, name) == end_offsets(kafka, name),
        timeout,
        "all is committed",
    )


def verdict(kafka, worker):
    names = worker.topics
    topics = (names[f"{role}_topic"] for role in ("input", "output", "dlq"))
    return audit(*(read_committed(kafka, name) for name in topics), topic=names["input_topic"])


def events(worker, name):
    return [event for event in worker.events() if event["event"] == name]


def test_two_processes_look_like_one_worker(kafka, several):
    worker = several().start()
    worker.wait_shared(4)
    feed(kafka, worker, 2_000)
    worker.wait_processed(2_000)
    assert worker.get("/livez") == worker.get("/readyz") == (200, "ok\n")
    status, body = worker.get("/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(body))
    assert max(Counter(family.name for family in families).values()) == 1
    samples = [sample for family in families for sample in family.samples]
    labelled = {sample.labels.get("process") for sample in samples}
    assert labelled == {"1", "2", "supervisor", None}
    assert {s.name for s in samples if "process" not in s.labels} == {"worker_processes"}
    values = {(s.name, s.labels.get("process")): s.value for s in samples}
    assert values["worker_processes", None] == 2
    for number in "12":
        assert values["worker_process_up", number] == 1
        assert values["worker_process_restarts_total", number] == 0
        assert values["process_resident_memory_bytes", number] > 0
        assert worker.metric("worker_records_processed_total", process=number) > 0
    if subprocess.run(["which", "promtool"], capture_output=True, check=False).returncode == 0:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=body, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (checked.returncode, checked.stderr.strip(), checked.stdout.strip()) == (0, "", "")
    assert worker.stop() == 0
    found = verdict(kafka, worker)
    assert found.exactly_once, found  # nothing was killed, so nothing came twice
    ours = [event for event in worker.events() if event["logger"] == "worker.service"]
    assert {event["process"] for event in ours} == {1, 2}
    assert worker.events()[-1]["event"] == "drained"
    assert "process" not in worker.events()[-1]


def test_a_process_that_is_stopped_holds_no_probe_and_no_scrape(several):
    worker = several().start()
    held, _ = worker.children()
    held.suspend()
    try:
        began = time.monotonic()
        assert worker.metric("worker_process_up") == 1
        assert time.monotonic() - began < 9  # Prometheus waits 10 s
        assert worker.get("/livez")[0] == 200
    finally:
        held.resume()
    assert worker.metric("worker_process_up") == 2
    assert worker.stop() == 0


def test_whoever_is_killed_each_input_has_one_output(kafka, several):
    """First a process, then the supervisor: its successor meets processes that still drain.

    Both guarantees, and kills at any moment: tests/chaos/test_delivery.py.
    """
    worker = several(delivery__guarantee="exactly_once", seconds_per_batch=0.15).start()
    worker.wait_shared(4)
    feed(kafka, worker, 1_500)
    worker.wait_processed(50)
    victim, other = worker.children()
    victim.kill()
    wait_until(lambda: worker.metric("worker_process_restarts_total") == 1, 30, "noticed")
    wait_until(lambda: len(worker.children()) == 2, 30, "it is started again")
    worker.wait_ready()
    assert other in worker.children()
    assert victim not in worker.children()
    (ended,) = events(worker, "process_ended")
    assert ended["exit"] == "SIGKILL"
    wait_until(lambda: worker.metric("worker_in_flight_records") > 100, 30, "all are at work")
    orphans = worker.children()
    worker.kill()
    successor = several(like=worker, delivery__guarantee="exactly_once").start()
    _, alive = psutil.wait_procs(orphans, timeout=40)
    assert not alive, worker.log()
    assert len(events(worker, "drain_started")) == 2  # nobody else told them that it had died
    wait_all_committed(kafka, successor)
    assert successor.stop() == 0
    found = verdict(kafka, successor)
    assert found.exactly_once, found


def test_a_supervisor_that_is_killed_leaves_nobody_behind(kafka, several):
    worker = several(seconds_per_batch=0.05).start()
    worker.wait_shared(4)
    feed(kafka, worker, 600)
    worker.wait_processed(100)
    orphans = worker.children()
    worker.kill()
    _, alive = psutil.wait_procs(orphans, timeout=40)
    assert not alive, worker.log()
    assert len(events(worker, "drained")) == 2  # each finished what it had read
    found = verdict(kafka, worker)
    assert not found.doubled
    assert not found.wrong


def test_signals_that_reach_every_process_at_once_are_one_request_to_drain(kafka, several):
    """As from systemd; a terminal's Ctrl-C goes to the supervisor's process group only."""
    worker = several(seconds_per_batch=0.1, delivery__guarantee="exactly_once").start()
    feed(kafka, worker, 600)
    worker.wait_processed(100)
    assert os.getpgid(worker.process.pid) not in {os.getpgid(c.pid) for c in worker.children()}
    children = worker.children()
    for process in (*children, worker.process):
        process.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert len(events(worker, "drained")) == 3
    assert verdict(kafka, worker).doubled == 0


def test_a_signal_during_the_start_ends_it_with_0(several):
    worker = several(stub={"seconds_to_load": 60}).start(ready=False)
    wait_until(lambda: len(events(worker, "http_listening")) == 3, 30, "all have begun")
    assert worker.stop() == 0


def test_the_real_command_shares_a_real_model(kafka, several, untrained):
    worker = several(checkpoint=untrained).start()
    worker.wait_shared(4)
    feed(kafka, worker, 300)
    worker.wait_processed(300)
    _, body = worker.get("/metrics")
    (info,) = [f for f in text_string_to_metric_families(body) if f.name == "worker_model_info"]
    assert [(s.labels["process"], s.labels["device"]) for s in info.samples] == [
        *(("1", "cpu"), ("2", "cpu"))
    ]
    supervisor = psutil.Process(worker.process.pid)
    assert not any("torch" in file.path for file in supervisor.memory_maps())
    assert worker.stop() == 0
    assert len(read_all(kafka, worker.topics["output_topic"])) == 300


def test_a_checkpoint_that_is_refused_ends_it_with_2_and_the_reason(several, tmp_path):
    worker = several(checkpoint=tmp_path / "nowhere").start(ready=False)
    assert worker.wait() == 2
    last = worker.events()[-1]
    assert re.match(r"process [12] was refused: model.checkpoint: .*nowhere", last["event"])
    assert (last["level"], last["logger"]) == ("error", "worker.processes.fleet")
