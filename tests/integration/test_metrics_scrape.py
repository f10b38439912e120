"""A live scrape: clean by Prometheus's own tool, and just what worker/README.md's table says."""

import subprocess
import uuid

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fakes import BREAKS
from tests.support.kafka_helpers import Message, produce
from tests.support.worker_process import WorkerProcess


@pytest.fixture(scope="module")
def scrape(kafka, tmp_path_factory):
    from tests.support.kafka_helpers import create_topic

    number = uuid.uuid4().hex[:8]  # on a cluster of one's own another run may have left some
    names = {f"{role}_topic": f"scrape-{role}-{number}" for role in ("input", "output", "dlq")}
    for name in names.values():
        create_topic(kafka, name, partitions=2)
    worker = WorkerProcess(
        bootstrap=kafka, group=number, directory=tmp_path_factory.mktemp("scrape"), **names
    )
    values = [b'{"text": "hello world"}', b'{"text": "it %s"}' % BREAKS.encode(), b"no", None]
    produce(kafka, names["input_topic"], [Message(value=value, key=b"k") for value in values])
    with worker.start():
        worker.wait_processed(len(values))
        status, body = worker.get("/metrics")
        assert status == 200
        assert worker.stop() == 0
    return body.replace(f"-{number}", "")


@pytest.mark.tool("promtool")
def test_promtool_finds_nothing_to_mend(scrape):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")


def test_the_scrape_counts_what_happened(scrape):
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(scrape)
        for sample in family.samples
    }
    assert found["worker_records_consumed_total", "scrape-input"] == 4
    assert found["worker_records_produced_total", "scrape-output"] == 2
    assert found["worker_records_produced_total", "scrape-dlq"] == 2
    assert found["worker_dead_letters_total", "model_failed"] == 1
    assert found["worker_dead_letters_total", "invalid_json"] == 1
    assert found["worker_dead_letters_total", "empty_text"] == 0
    assert found["worker_records_processed_total", "scrape-input", "tombstone"] == 1
    assert found["worker_inference_errors_total", "other"] >= 1
    assert found[("worker_assigned_partitions",)] == 2
    assert found[("worker_broker_reachable",)] == 1
