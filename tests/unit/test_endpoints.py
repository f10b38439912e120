"""The probes and the metrics over HTTP."""

import contextlib
import http.client
import socket
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from worker.awake import AwakeClock
from worker.endpoints import BROKER_SILENCE, STUCK, Endpoints, Health
from worker.errors import Refused

PATIENCE = 20


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Server:
    """The endpoints, on a clock of their own."""

    def __init__(self):
        self.clock = Clock()
        self.health = Health(clock=self.clock)
        self.registry = CollectorRegistry()
        self.endpoints = Endpoints(
            host="127.0.0.1", port=0, registry=self.registry, health=self.health
        )
        self.endpoints.start()

    def ask(self, path, method="GET"):
        link = http.client.HTTPConnection("127.0.0.1", self.endpoints.port, timeout=PATIENCE)
        link.request(method, path)
        answer = link.getresponse()
        body = answer.read().decode()
        link.close()
        return answer.status, body

    def send(self, data):
        """Everything that comes back for these bytes."""
        with socket.create_connection(("127.0.0.1", self.endpoints.port), PATIENCE) as link:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: link.recv(65_536), b""))

    def all_is_well(self):
        self.health.model_ready = True
        self.health.loop_turned = self.health.broker_heard = self.clock.now
        self.health.moved = self.clock.now


@pytest.fixture(scope="module")
def shared():
    server = Server()
    yield server
    server.endpoints.close()  # half a second: once is enough


@pytest.fixture
def server(shared):
    """The endpoints as they are at start."""
    shared.clock.now = 1_000.0
    shared.health.loop_turned = shared.health.broker_heard = shared.health.moved = None
    shared.health.model_ready = shared.health.draining = False
    shared.health.patience, shared.health.bad_input = STUCK, None
    shared.health.unacknowledged = None
    return shared


def test_nobody_waits_for_a_scrape_where_nobody_ever_scraped():
    server = Server()
    server.endpoints.last_scrape(stopped=lambda: pytest.fail("it waits"))
    server.endpoints.close()


def test_what_was_counted_last_is_shown_before_the_worker_ends(server):
    """A scrape that began before does not show it."""
    server.ask("/metrics")
    waited = threading.Thread(
        target=server.endpoints.last_scrape, kwargs={"stopped": lambda: False}
    )
    waited.start()
    waited.join(0.2)
    assert waited.is_alive()
    server.ask("/livez")
    waited.join(0.1)
    assert waited.is_alive()
    assert server.ask("/metrics")[0] == 200
    waited.join(PATIENCE)
    assert not waited.is_alive()


def test_the_wait_for_a_last_scrape_ends_in_time_or_when_the_worker_is_stopped(server, monkeypatch):
    server.ask("/metrics")
    server.endpoints.last_scrape(stopped=lambda: True)
    monkeypatch.setattr("worker.endpoints.LAST_SCRAPE", 0.01)
    server.endpoints.last_scrape(stopped=lambda: False)


def test_while_the_model_loads_the_worker_is_alive_and_not_ready(server):
    assert server.ask("/livez") == (200, "ok\n")
    assert server.ask("/readyz") == (503, "the model is not loaded\n")


def test_a_model_that_loads_for_long_is_no_reason_to_restart(server):
    server.clock.now += 100 * STUCK
    assert server.ask("/livez")[0] == 200


def test_records_in_flight_that_nothing_settles_are_a_reason_to_restart(server):
    server.all_is_well()
    server.health.moved = server.clock.now - STUCK - 1
    status, body = server.ask("/livez")
    assert (status, body) == (503, "no record in flight was settled for 121 s\n")


def test_records_that_wait_for_a_slow_model_are_none_before_its_deadline(server):
    server.all_is_well()
    server.health.patience = 360.0
    server.health.moved = server.clock.now - 350
    assert server.ask("/livez")[0] == 200
    server.health.moved = server.clock.now - 361
    assert server.ask("/livez")[0] == 503


def test_outputs_that_a_partition_does_not_take_are_no_reason_to_restart(server):
    server.all_is_well()
    for seconds in range(11, 500, 10):
        server.clock.now += 10
        server.health.loop_turned = server.health.broker_heard = server.clock.now
        server.health.outputs_wait(seconds)
        assert server.ask("/livez") == (200, "ok\n")
        assert server.ask("/readyz") == (503, f"no output was acknowledged for {seconds} s\n")
    server.health.outputs_wait(0)
    server.health.moved = server.clock.now
    assert server.ask("/readyz") == (200, "ok\n")


def test_a_publish_thread_that_hangs_while_outputs_wait_is_a_reason_to_restart(server):
    server.all_is_well()
    server.health.outputs_wait(11)
    server.clock.now += STUCK + 1
    server.health.loop_turned = server.health.broker_heard = server.clock.now
    assert server.ask("/livez") == (503, "no record in flight was settled for 121 s\n")


def test_a_worker_that_runs_is_alive_and_ready(server):
    server.all_is_well()
    assert server.ask("/livez") == (200, "ok\n")
    assert server.ask("/readyz") == (200, "ok\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"draining": True}, "draining"),
        ({"model_ready": False}, "model"),
        ({"broker_heard": None}, "broker"),
        ({"broker_heard": 1_000.0 - BROKER_SILENCE - 1}, "broker"),
        ({"moved": None}, "consumer"),
        ({"bad_input": "201 of the last 400"}, "201 of the last 400"),
    ],
)
def test_a_worker_that_cannot_label_now_is_alive_and_says_why_it_is_not_ready(
    server, change, reason
):
    server.all_is_well()
    for field, value in change.items():
        setattr(server.health, field, value)
    status, body = server.ask("/readyz")
    assert status == 503
    assert reason in body
    assert server.ask("/livez")[0] == 200


def test_a_broker_that_is_heard_again_makes_the_worker_ready_again(server):
    server.all_is_well()
    server.clock.now += BROKER_SILENCE + 1
    assert server.ask("/readyz")[0] == 503
    server.health.broker_heard = server.clock.now
    assert server.ask("/readyz")[0] == 200


def test_a_poll_loop_that_hangs_ends_the_life(server):
    server.all_is_well()
    server.clock.now += STUCK
    assert server.ask("/livez")[0] == 200
    server.clock.now += 5
    status, body = server.ask("/livez")
    assert status == 503
    assert "125 s" in body


@pytest.mark.parametrize("pause", [97, 3_600])
def test_a_pause_of_the_whole_process_is_no_reason_to_restart(server, pause):
    raw = server.clock
    clock = AwakeClock(raw)
    with clock.ticking():
        health = Health(clock=clock, loop_turned=clock(), moved=clock(), broker_heard=clock())
        health.model_ready = True
        raw.now += pause
        assert health.live() is None
        assert health.ready() is None


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics/", "/livez/x", "/LIVEZ", "/%00"])
def test_any_other_path_is_not_found(server, path):
    assert server.ask(path)[0] == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(server, path, method):
    assert server.ask(path, method)[0] == 405


def test_what_is_sent_changes_nothing(server):
    server.all_is_well()
    Counter("worker_kept_total", "Kept.", registry=server.registry).inc()
    before = {path: server.ask(path) for path in ("/livez", "/readyz")}
    kept = kept_samples(server)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/livez", "/readyz", "/metrics", "/metrics/job/x", "/-/quit", "/"):
            body = b'{"draining": true}'
            head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            status = server.send(head.encode() + body).split(b" ")[1]
            assert status in (b"404", b"405")
    assert {path: server.ask(path) for path in before} == before
    assert kept_samples(server) == kept


def kept_samples(server):
    body = server.ask("/metrics")[1]
    return [line for line in body.splitlines() if line.startswith("worker_kept_total")]


def test_a_query_is_no_part_of_the_path(server):
    assert server.ask("/livez?verbose=1")[0] == 200


@pytest.mark.parametrize(("path", "status"), [("/livez", b"200"), ("/readyz", b"503")])
def test_head_gives_the_status_without_a_body(server, path, status):
    answer = server.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert headers.split(b" ")[1] == status
    assert body == b""


def test_metrics_are_in_the_text_format(server):
    Counter("worker_things_total", "Things.", ["topic"], registry=server.registry).labels("t").inc()
    status, body = server.ask("/metrics")
    assert status == 200
    found = {family.name: family for family in text_string_to_metric_families(body)}
    assert found["worker_things"].type == "counter"
    assert found["worker_things"].samples[0].value == 1


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # TLS
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * 70_000,
        b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    ],
)
def test_noise_does_not_stop_the_server(server, capfd, noise):
    server.send(noise)
    assert server.ask("/livez") == (200, "ok\n")
    assert capfd.readouterr() == ("", "")


def test_a_client_that_breaks_off_does_not_stop_the_server(server, capfd):
    for _ in range(5):
        link = socket.create_connection(("127.0.0.1", server.endpoints.port), PATIENCE)
        # A reset instead of an orderly end.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        link.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        link.close()
    assert server.ask("/livez") == (200, "ok\n")
    assert capfd.readouterr() == ("", "")


def test_a_client_that_says_nothing_does_not_block_the_others(server):
    with socket.create_connection(("127.0.0.1", server.endpoints.port), PATIENCE):
        assert server.ask("/livez") == (200, "ok\n")


def test_requests_that_never_end_do_not_block_the_others(server):
    begun = (
        b"",
        b"G",
        b"GET /metrics HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1",
    )
    address = ("127.0.0.1", server.endpoints.port)
    with contextlib.ExitStack() as held:
        for number in range(60):
            link = held.enter_context(socket.create_connection(address, PATIENCE))
            link.sendall(begun[number % len(begun)])
        for _ in range(3):
            assert server.ask("/livez") == (200, "ok\n")
    assert server.ask("/livez") == (200, "ok\n")


def test_one_address_is_reachable_there_and_nowhere_else(server):
    # The server is bound to 127.0.0.1; on Linux all of 127.0.0.0/8 is this machine.
    with pytest.raises(OSError, match=r"refused|assign|unreachable|timed out"):
        socket.create_connection(("127.0.0.2", server.endpoints.port), 5).close()
    assert server.ask("/livez") == (200, "ok\n")


def test_a_port_in_use_is_refused_in_one_line(server):
    with pytest.raises(Refused, match=f"127.0.0.1:{server.endpoints.port} cannot be bound") as told:
        Endpoints(
            host="127.0.0.1",
            port=server.endpoints.port,
            registry=server.registry,
            health=server.health,
        )
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("host", "port"), [("256.1.1.1", 0), ("192.0.2.1", 0), ("127.0.0.1", 70_000)]
)
def test_an_address_that_is_not_ours_is_refused(host, port):
    with pytest.raises(Refused, match="cannot be bound"):
        Endpoints(host=host, port=port, registry=CollectorRegistry(), health=Health(clock=Clock()))


def test_after_the_end_the_port_is_free_and_no_thread_is_left():
    # Its own thread: those that earlier tests' clients left may end at any time.
    before = set(threading.enumerate())
    server = Server()
    (ours,) = set(threading.enumerate()) - before
    server.endpoints.close()
    assert not ours.is_alive()
    again = Endpoints(
        host="127.0.0.1",
        port=server.endpoints.port,
        registry=server.registry,
        health=server.health,
    )
    again.start()
    again.close()
