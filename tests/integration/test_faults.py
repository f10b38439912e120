"""What a worker does when its model or its input fails: the process, on a real Apache Kafka."""

import json

import pytest

from tests.kafka_helpers import Message, committed, end_offsets, produce, read_all
from tests.worker_process import WorkerProcess


@pytest.fixture
def worker(kafka, topic, tmp_path):
    """A function that makes a worker on fresh topics; `.topics` are its three names."""
    made = []

    def make(*, partitions=2, **options):
        names = {
            "input_topic": topic("in", partitions=partitions),
            "output_topic": topic("out", partitions=partitions),
            "dlq_topic": topic("dlq"),
        }
        options = {"bootstrap": kafka, "group": names["input_topic"], **options}
        process = WorkerProcess(directory=tmp_path, **names, **options)
        process.topics = names
        made.append(process)
        return process

    yield make
    for process in made:
        process.__exit__()


def tweet(number, text=None):
    value = {"text": text or f"message number {number}", "id": number}
    return Message(value=json.dumps(value).encode(), key=b"%d" % number)


def tweets(count):
    return [tweet(number) for number in range(count)]


def send(process, messages):
    return produce(process.environment["WORKER_KAFKA__BOOTSTRAP_SERVERS"],
                   process.topics["input_topic"], messages)  # fmt: skip


def done(kafka, process):
    """Records up to the committed offsets."""
    return sum(committed(kafka, process.topics["input_topic"]).values())


def labelled(kafka, process):
    return [json.loads(o.value) for o in read_all(kafka, process.topics["output_topic"])]


def dead(kafka, process):
    return read_all(kafka, process.topics["dlq_topic"])


def events(process, name):
    return [event for event in process.events() if event.get("event") == name]


def errors(process):
    return [event["event"] for event in process.events() if event.get("level") == "error"]


def all_committed(kafka, process):
    name = process.topics["input_topic"]
    return committed(kafka, name) == {p: end for p, end in end_offsets(kafka, name).items() if end}


# The model ---------------------------------------------------------------------------------


def test_a_hung_model_call_ends_the_process_with_one_line_and_commits_nothing_of_it(kafka, worker):
    process = worker(partitions=1, stub={"hangs_after": 3}, model__deadline=3,
                     batch__max_records=20)  # fmt: skip
    send(process, tweets(500))
    process.start()
    assert process.wait(90) == 1
    (line,) = errors(process)
    assert line.startswith("a call of the model has not come back for 3 s (its deadline: 3 s)")
    assert len(labelled(kafka, process)) == 60
    assert done(kafka, process) <= 60
    assert dead(kafka, process) == []


def test_a_model_that_breaks_for_everything_dead_letters_nothing(kafka, worker):
    process = worker(partitions=1, stub={"breaks_after": 5}, batch__max_records=20,
                     seconds_per_batch=0.2)  # fmt: skip
    send(process, tweets(1_000))
    process.start()
    assert process.wait(90) == 1
    (line,) = errors(process)
    assert line.startswith("the model fails for every text, a known-good one included")
    assert dead(kafka, process) == []
    assert 0 < done(kafka, process) <= len(labelled(kafka, process)) <= 100
