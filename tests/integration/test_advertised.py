"""Brokers that advertise an address at which this machine does not reach them."""

import gc
import socket
import threading
from pathlib import Path

import pytest

from tests.support.kafka_helpers import wait_until
from tests.support.proxy import Api
from tests.support.scene import Scene
from worker import check as checks
from worker import settings
from worker.errors import Transient
from worker.kafka.cluster.clients import Connection
from worker.kafka.cluster.topics import TopicDesk

UNKNOWN = ("broker-1.invalid", 9092)
CAUSES = {
    UNKNOWN: "Name or service not known|Temporary failure in name resolution|No address",
    ("127.0.0.1", 1): "Connection refused",
}


@pytest.fixture
def scene(proxied_kafka, tmp_path):
    return Scene(*proxied_kafka, tmp_path, partitions=2)


def events(worker, name):
    return [event["error"] for event in worker.events() if event.get("event") == name]


@pytest.mark.parametrize("address", CAUSES, ids=lambda address: address[0])
def test_check_names_the_address_the_cause_and_the_brokers_setting(
    scene, address, tmp_path, monkeypatch, capsys
):
    scene.proxy.advertise(*address)
    monkeypatch.setattr(checks, "_device", lambda *_: None)
    monkeypatch.setattr(checks, "_checkpoint", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    options = [
        f"--{name.replace('_', '.')}={value}" for name, value in scene.names.items()
    ]  # input_topic is --input.topic
    servers = f"--kafka.bootstrap-servers={scene.proxy.bootstrap_servers}"
    assert checks.check(settings.load([servers, *options], command="check")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "{}:{}: ".format(*address) in line
    assert any(cause in line for cause in CAUSES[address].split("|"))
    assert "advertised.listeners" in line


def test_a_broker_that_was_not_needed_yet_is_named_by_check_too(
    scene, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checks, "_device", lambda *_: None)
    monkeypatch.setattr(checks, "_checkpoint", lambda *_: None)
    real = Connection.examine

    def another(link):
        found = real(link)
        found.advertised.append("broker-2:9092: Connection refused")
        return found

    monkeypatch.setattr(Connection, "examine", another)
    monkeypatch.chdir(tmp_path)
    options = [f"--{name.replace('_', '.')}={value}" for name, value in scene.names.items()]
    servers = f"--kafka.bootstrap-servers={scene.direct}"
    assert checks.check(settings.load([servers, *options], command="check")) == 1
    printed = capsys.readouterr()
    assert printed.out.count("topic       ok: ") == 3
    assert "broker-2:9092: Connection refused" in printed.err


def test_a_start_names_it_once_and_goes_on_when_it_is_mended(scene):
    scene.proxy.advertise(*UNKNOWN)
    with scene.worker().start(ready=False) as worker:
        wait_until(lambda: worker.alive() and events(worker, "waiting_for_broker"), 60)
        attempts = scene.proxy.seen[Api.METADATA]
        wait_until(lambda: scene.proxy.seen[Api.METADATA] > attempts + 3, 60)
        (line,) = events(worker, "waiting_for_broker")
        assert "broker-1.invalid:9092" in line
        assert "advertised.listeners" in line
        scene.proxy.clear()
        worker.wait_ready()
        assert worker.stop() == 0


def test_it_is_named_while_a_worker_runs(scene):
    def named():
        scene.proxy.disconnect()  # clients that have heard of the address use it now
        return worker.alive() and any(
            "broker-1.invalid:9092" in line for line in events(worker, "broker_away")
        )

    with scene.worker(kafka__metadata_max_age=1).start() as worker:
        scene.proxy.advertise(*UNKNOWN)
        wait_until(named, 60, "the address is named", every=1.0)
        worker.kill()  # at its drain it would wait for the brokers


def test_a_question_that_fails_again_and_again_leaves_nothing_behind(scene, caplog):
    def held():
        gc.collect()
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    caplog.set_level("CRITICAL", "kafka")  # else pytest keeps the errors that it logs, and sockets
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()
    scene.proxy.advertise(*closed)
    desk = TopicDesk(
        connection=Connection(bootstrap_servers=scene.proxy.bootstrap_servers, client_id="x")
    )
    before = held()
    for attempt in range(6):
        with pytest.raises(Transient, match=r"advertised\.listeners"):
            desk.end_offsets(scene.topic, 2)
        if attempt == 0:
            before = held()
    after = held()
    assert after[0] - before[0] < 5
    assert after[1] - before[1] < 5
