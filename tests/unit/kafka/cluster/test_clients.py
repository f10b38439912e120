"""A client that cannot be made leaves nothing behind: a worker waits for its brokers for days."""

import gc
import socket
import struct
import threading
from pathlib import Path

import kafka.errors
import pytest
from kafka.protocol.metadata import ApiVersionsResponse, MetadataResponse
from kafka.protocol.sasl import SaslAuthenticateResponse, SaslHandshakeResponse

from tests.support.kafka_helpers import wait_until
from worker import garbage
from worker.errors import Refused, Transient
from worker.kafka.cluster import examine, talk
from worker.kafka.cluster.clients import Connection
from worker.kafka.cluster.examine import Found
from worker.kafka.cluster.security import Security

KINDS = ("admin", "consumer", "producer")
FAILURES = 5


class Broker:
    """Listens, and answers with what `answer` gives for an api key and a version; None: silence."""

    def __init__(self, answer):
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.servers = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._links = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        stream = link.makefile("rb")
        try:
            while head := stream.read(4):
                frame = stream.read(int.from_bytes(head))
                api, version, correlation = struct.unpack_from(">hhi", frame)
                answer = self._answer(api, version)
                if answer is None:
                    continue
                answer.with_header(correlation_id=correlation)
                link.sendall(answer.encode(header=True, framed=True))
        except OSError:
            pass
        finally:
            stream.close()
            link.close()

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def silent(_api, _version):
    return None


def somewhere_else(address):
    """A broker that says that it is at `address`."""

    def answer(api, version):
        if api == 18:
            return api_versions(version, (3, 5), (18, 4))
        broker = MetadataResponse.MetadataResponseBroker
        host, port = address
        return MetadataResponse(
            version=version, throttle_time_ms=0, cluster_id="x", controller_id=1, topics=[],
            brokers=[broker(node_id=1, host=host, port=port, rack=None)],
        )  # fmt: skip

    return answer


def api_versions(version, *keys):
    key = ApiVersionsResponse.ApiVersion
    return ApiVersionsResponse(
        version=version, error_code=0,
        api_keys=[key(api_key=api, min_version=0, max_version=most) for api, most in keys],
        throttle_time_ms=0,
    )  # fmt: skip


def without_metadata(api, version):
    return api_versions(version, (18, 4)) if api == 18 else None


def suspicious(api, version):
    """Refuses every password."""
    if api == 18:
        return api_versions(version, (3, 12), (17, 1), (18, 4), (36, 2))
    if api == 17:
        return SaslHandshakeResponse(version=version, error_code=0, mechanisms=["PLAIN"])
    return SaslAuthenticateResponse(
        version=version, error_code=58, error_message="no", auth_bytes=b"", session_lifetime_ms=0
    )


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def held():
    gc.collect()
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def serve():
    """Brokers that answer as the function says; gives their address."""
    brokers = []

    def start(answer):
        brokers.append(Broker(answer))
        return brokers[-1].servers

    yield start
    for broker in brokers:
        broker.close()


def make(connection, kind):
    return getattr(connection, kind)()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "trouble", ["closed port", "silence", "silence before TLS", "wrong password", "no Metadata"]
)
def test_clients_that_cannot_be_made_leave_no_thread_and_no_descriptor(
    kind, trouble, monkeypatch, caplog
):
    caplog.set_level("CRITICAL", "kafka")  # else pytest keeps the errors that it logs, and sockets
    answers = {"silence": silent, "wrong password": suspicious, "no Metadata": without_metadata}
    answers["silence before TLS"] = silent
    broker = Broker(answers[trouble]) if trouble in answers else None
    password = Security(protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="a", password="b")
    connection = Connection(
        bootstrap_servers=broker.servers if broker else closed_port(),
        client_id="test",
        patience=0.1,
        security={"wrong password": password, "silence before TLS": Security(protocol="SSL")}.get(
            trouble, Security()
        ),
    )
    # It asks on connections of its own, which it closes; here it would only take seconds.
    monkeypatch.setattr(Connection, "examine", lambda _: Found([], []))
    before = 0, 0
    for attempt in range(FAILURES + 1):
        with pytest.raises((Transient, kafka.errors.KafkaError)):
            make(connection, kind)
        if attempt == 0:  # what the first one imports and the broker's thread stay
            before = held()

    def as_before():
        threads, descriptors = held()
        return threads - before[0] < FAILURES and descriptors - before[1] < FAILURES

    try:  # the broker here may notice late that a client is gone
        wait_until(as_before, 5.0, f"no more than {before} threads and descriptors")
    finally:
        if broker:
            broker.close()


@pytest.mark.parametrize(
    ("address", "cause"),
    [(("127.0.0.1", 1), "Connection refused"), (("no-such-host.invalid", 9092), "")],
    ids=["closed port", "unknown host"],
)
def test_an_advertised_address_that_is_not_reached_is_named(serve, address, cause):
    link = Connection(bootstrap_servers=serve(somewhere_else(address)), client_id="x")
    line = link.trouble(kafka.errors.KafkaConnectionError())
    assert "{}:{}: {}".format(*address, cause) in line
    assert "advertised.listeners" in line


def test_an_advertised_address_where_something_else_listens_is_named(serve, monkeypatch):
    monkeypatch.setattr(examine, "PAUSE", 0.01)
    monkeypatch.setattr(talk, "PATIENCE", 0.3)
    host, _, port = serve(silent).partition(":")
    link = Connection(bootstrap_servers=serve(somewhere_else((host, int(port)))), client_id="x")
    line = link.trouble(kafka.errors.RequestTimedOutError())
    assert f"({host}:{port}: it does not answer)" in line


def test_an_answer_that_is_an_error_is_not_examined(monkeypatch):
    monkeypatch.delattr(Connection, "examine")
    link = Connection(bootstrap_servers="nowhere:1", client_id="x")
    line = link.trouble(kafka.errors.CoordinatorNotAvailableError())
    assert line == "the cluster does not answer: CoordinatorNotAvailableError"


def test_a_controller_is_refused_since_no_client_is_served_there(serve):
    address = serve(without_metadata)
    link = Connection(bootstrap_servers=address, client_id="x")
    with pytest.raises(Refused, match=f"{address} is no broker for clients .*bootstrap_servers"):
        link.admin()


def test_descriptors_of_clients_that_cannot_be_made_do_not_wait_for_the_rare_search(
    monkeypatch, caplog
):
    """Those of a hundred attempts would, and an outage has many."""
    caplog.set_level("CRITICAL", "kafka")  # else pytest keeps the errors that it logs, and sockets
    monkeypatch.setattr(Connection, "examine", lambda _: Found([], []))
    monkeypatch.setattr(garbage, "PAUSE", 0.0)
    connection = Connection(
        bootstrap_servers=closed_port(), client_id="test", patience=0.01, security=Security()
    )
    thresholds = gc.get_threshold()
    garbage.rarely()
    try:
        counts = []
        for _ in range(30):
            with pytest.raises(Transient):
                connection.producer()
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    assert max(counts) - counts[0] < FAILURES
