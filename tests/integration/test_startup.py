"""The start of a worker on a real broker: what it imports, what it logs, what interrupts it."""

import json
import signal

import pytest

from tests.support import imported
from tests.support.kafka_helpers import produce, wait_until
from tests.support.worker_process import WorkerProcess


@pytest.fixture
def names(topic):
    return {f"{role}_topic": topic(role) for role in ("input", "output", "dlq")}


@pytest.fixture
def worker(kafka, names, tmp_path):
    made = []

    def make(**options):
        settings = names | options
        group = names["input_topic"]
        made.append(WorkerProcess(bootstrap=kafka, directory=tmp_path, group=group, **settings))
        return made[-1]

    yield make
    for process in made:
        process.__exit__()


def event(process, name):
    return next((each for each in process.events() if each.get("event") == name), None)


def modules_of_a_whole_run(process, module, kafka, names):
    """From the start over a labelled record to the drain."""
    process.command = imported.command(module, *process.command[3:])
    process.start()
    produce(kafka, names["input_topic"], [json.dumps({"text": "i feel happy"})])
    process.wait_processed(1)
    assert process.stop() == 0
    return imported.modules(process.log_path.read_text())


def test_a_worker_with_a_stub_model_never_imports_a_models_libraries(worker, kafka, names):
    found = modules_of_a_whole_run(worker(), "tests.support.fakes", kafka, names)
    assert not imported.WITHOUT_A_MODEL & found


def test_a_worker_with_a_model_never_imports_what_compiles_or_trains(
    worker, kafka, names, untrained
):
    process = worker(checkpoint=untrained)
    found = modules_of_a_whole_run(process, "worker", kafka, names)
    assert "torch" in found
    assert not imported.WITH_A_MODEL & found


def test_the_log_tells_the_seconds_of_each_step(worker, untrained):
    process = worker(checkpoint=untrained)
    process.start()
    loaded, started = event(process, "model_loaded"), event(process, "worker_started")
    steps = ["import", "checkpoint", "weights", "padding", "precision", "kernels", "rows", "budget"]
    assert list(loaded["seconds"]) == list(loaded["cpu_seconds"]) == steps
    assert all(seconds >= 0 for seconds in loaded["seconds"].values())
    assert 0 < sum(loaded["seconds"].values()) <= started["load_seconds"] + 0.1
    assert started["warm_up_seconds"] > 0
    # Beside each other: the wait for the model is what the topics' check has left of it.
    whole = started["load_seconds"] + started["warm_up_seconds"]
    assert started["model_seconds"] <= whole


def test_a_missing_topic_ends_the_process_while_the_model_is_still_being_loaded(worker, topic):
    absent = topic("absent", create=False)
    process = worker(stub={"seconds_to_load": 3_000}, output_topic=absent)
    process.start(ready=False)
    assert process.wait(60) == 2
    assert "there is no topic for output.topic" in process.events()[-1]["event"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_model_is_being_loaded_ends_the_process_with_0(worker, number):
    process = worker(stub={"seconds_to_load": 3_000})
    process.start(ready=False)
    wait_until(lambda: process.get("/livez")[0] == 200, 60, "the probes answer")
    assert process.get("/readyz")[0] == 503
    assert process.stop(timeout=30, number=number) == 0
    assert process.events()[-1]["event"] == "stopped_before_start"


TORN = """
import os, runpy, signal, sys, threading

start = threading.Thread.start

def interrupted(self):
    if self.name.startswith("kafka-io"):
        os.kill(os.getpid(), signal.SIGTERM)
    start(self)

threading.Thread.start = interrupted
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def test_a_signal_in_the_middle_of_a_library_tears_nothing(worker):
    """The client cleans up behind an exception with an error of its own, if it comes there."""
    process = worker(stub={"seconds_to_load": 3_000})
    python, _, module, *arguments = process.command
    process.command = [python, "-c", TORN, module, *arguments]
    process.start(ready=False)
    assert process.wait(60) == 0
    assert process.events()[-1]["event"] == "stopped_before_start"
