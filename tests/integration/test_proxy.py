"""The proxy that hurts on purpose: each kind of damage happens, to the request that was named."""

import contextlib
import gc
import socket
import struct
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import KafkaProducer

from tests.support.kafka_helpers import create_topic, produce, read_all, wait_until
from tests.support.proxy import Api, Proxy


@pytest.fixture
def setup(proxied_kafka):
    direct, proxy = proxied_kafka
    return direct, proxy, create_topic(direct, f"topic-{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def producer(proxy, **options):
    made = KafkaProducer(
        bootstrap_servers=proxy.bootstrap_servers,
        enable_idempotence=True,
        reconnect_backoff_max_ms=500,
        **options,
    )
    try:
        yield made
    finally:
        made.close(timeout=30)


def values(direct, topic):
    return [record.value for record in read_all(direct, topic)]


def test_what_goes_through_arrives_and_is_counted(setup):
    direct, proxy, topic = setup
    produce(proxy.bootstrap_servers, topic, [b"one", b"two"])
    assert values(direct, topic) == [b"one", b"two"]
    assert values(proxy.bootstrap_servers, topic) == [b"one", b"two"]
    assert proxy.answered[Api.PRODUCE] == proxy.seen[Api.PRODUCE] > 0
    assert proxy.seen[Api.FETCH] > 0


def test_a_reader_past_the_proxy_never_touches_it(setup):
    direct, proxy, topic = setup
    before = proxy.connections
    produce(direct, topic, [b"one"])
    assert values(direct, topic) == [b"one"]
    assert proxy.connections == before
    assert not proxy.seen


def test_refusals_amid_new_connections_leave_none_open():
    """ResourceWarnings are errors here."""
    done = threading.Event()

    def knock(port):
        while not done.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                pass

    with Proxy() as proxy, ThreadPoolExecutor(2) as pool:
        knocking = [pool.submit(knock, proxy.port) for _ in range(2)]
        for _ in range(1_000):
            proxy.refuse()
            proxy.accept()
        done.set()
        for each in knocking:
            each.result(10)
    gc.collect()


def test_a_refusal_is_one_and_ends(setup):
    direct, proxy, topic = setup
    with producer(proxy) as sender:
        sender.send(topic, b"before").get(timeout=60)
        proxy.refuse(2.0)
        began = time.monotonic()
        before = proxy.connections
        sender.send(topic, b"after").get(timeout=60)
        assert time.monotonic() - began > 1.5
        assert proxy.connections > before
    assert values(direct, topic) == [b"before", b"after"]


def test_accept_ends_a_refusal_without_an_end(setup):
    direct, proxy, topic = setup
    with producer(proxy) as sender:
        sender.send(topic, b"before").get(timeout=60)
        proxy.refuse()
        waiting = sender.send(topic, b"after")
        time.sleep(1.0)
        assert not waiting.is_done
        proxy.accept()
        waiting.get(timeout=60)
    assert values(direct, topic) == [b"before", b"after"]


def test_a_dropped_request_never_reached_the_broker(setup):
    direct, proxy, topic = setup
    with producer(proxy) as sender:
        sender.send(topic, b"one").get(timeout=60)
        drop = proxy.drop_request(Api.PRODUCE, nth=2, refuse=0.5)
        sender.send(topic, b"two").get(timeout=60)
        assert drop.hits == 0
        retry = proxy.hold_request(Api.PRODUCE, nth=2)  # so that the log can be read before it
        waiting = sender.send(topic, b"three")
        retry.wait()
        assert drop.hits == 1
        assert values(direct, topic) == [b"one", b"two"]
        retry.release()
        waiting.get(timeout=60)
    assert values(direct, topic) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("close", [True, False], ids=["closed", "silent"])
def test_a_swallowed_answer_is_asked_for_again_and_doubles_nothing(setup, close):
    direct, proxy, topic = setup
    with producer(proxy, request_timeout_ms=3_000) as sender:
        sender.send(topic, b"one").get(timeout=60)
        lost = proxy.swallow_response(Api.PRODUCE, close=close)
        before = proxy.seen[Api.PRODUCE]
        waiting = sender.send(topic, b"two")
        lost.wait()
        assert values(direct, topic) == [b"one", b"two"], "the broker has it already"
        waiting.get(timeout=60)
        assert proxy.seen[Api.PRODUCE] == before + 2
    assert values(direct, topic) == [b"one", b"two"]


def test_a_fault_is_not_spent_on_a_client_that_is_gone_before_the_answer():
    """As the requests of a producer that was discarded while one of them was held."""

    def request(correlation):
        body = struct.pack(">hhih", Api.PRODUCE, 9, correlation, 1) + b"c"
        return struct.pack(">i", len(body)) + body

    def receive(connection):
        size = connection.recv(4, socket.MSG_WAITALL)
        return connection.recv(int.from_bytes(size), socket.MSG_WAITALL)

    with (
        socket.create_server(("127.0.0.1", 0)) as broker,
        Proxy(target=broker.getsockname()[1]) as proxy,
    ):
        lost = proxy.swallow_response(Api.PRODUCE)
        with socket.create_connection(("127.0.0.1", proxy.port)) as gone:
            gone.sendall(request(1) + request(2) + request(3))
            served, _ = broker.accept()
            assert [receive(served) for _ in range(3)]
        with served:
            assert served.recv(1) == b"", "the proxy passes on that the client is gone"
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(request(4))
            served, _ = broker.accept()
            with served:
                assert receive(served)
                served.sendall(struct.pack(">ii", 4, 4))
                lost.wait()
                assert client.recv(1) == b""
    assert lost.hits == 1


def test_a_held_request_waits_outside_and_a_held_answer_inside_the_broker(setup):
    direct, proxy, topic = setup
    with producer(proxy) as sender:
        sender.send(topic, b"one").get(timeout=60)
        request = proxy.hold_request(Api.PRODUCE)
        waiting = sender.send(topic, b"two")
        request.wait()
        assert values(direct, topic) == [b"one"]
        request.release()
        waiting.get(timeout=60)
        answer = proxy.hold_response(Api.PRODUCE)
        waiting = sender.send(topic, b"three")
        answer.wait()
        assert values(direct, topic) == [b"one", b"two", b"three"]
        assert not waiting.is_done
        answer.release()
        waiting.get(timeout=60)


def test_a_delay_is_at_least_as_long_as_said(setup):
    _, proxy, topic = setup
    with producer(proxy) as sender:
        sender.send(topic, b"one").get(timeout=60)
        late = proxy.delay(Api.PRODUCE, 1.0, times=1)
        began = time.monotonic()
        sender.send(topic, b"two").get(timeout=60)
        assert time.monotonic() - began >= 1.0
        assert late.hits == 1


def test_a_fault_for_one_client_spares_the_other(setup):
    direct, proxy, topic = setup
    with producer(proxy, client_id="victim") as victim, producer(proxy, client_id="other") as other:
        for sender in (victim, other):
            sender.send(topic, b"first").get(timeout=60)
        held = proxy.hold_request(Api.PRODUCE, client="victim")
        waiting = victim.send(topic, b"victim")
        held.wait()
        other.send(topic, b"other").get(timeout=60)
        assert not waiting.is_done
        held.release()
        waiting.get(timeout=60)
    assert values(direct, topic)[2:] == [b"other", b"victim"]


def test_commit_of_a_transaction_whose_answer_is_lost_is_done_once(setup):
    """Transactions work through the proxy, and the markers that the broker writes to itself."""
    direct, proxy, topic = setup
    with producer(proxy, transactional_id="t", request_timeout_ms=5_000) as sender:
        sender.init_transactions()
        sender.begin_transaction()
        sender.send(topic, b"one").get(timeout=60)
        lost = proxy.swallow_response(Api.END_TXN)
        sender.commit_transaction()
        assert lost.hits == 1
        assert proxy.seen[Api.END_TXN] == 2
    wait_until(lambda: [r.value for r in read_all(direct, topic, "read_committed")] == [b"one"], 60)
