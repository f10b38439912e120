"""What a broker's answers, or silence, mean to a client: nothing here speaks to a real one."""

import itertools
import os
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.secure_kafka import KEY_PASSWORD, Certificates
from worker.errors import Refused, Transient
from worker.kafka.cluster import examine as examination
from worker.kafka.cluster import talk
from worker.kafka.cluster.clients import Connection
from worker.kafka.cluster.security import Security, TokenFile

SECRET = "hunter2-is-secret"
SASL = Security(
    protocol="SASL_PLAINTEXT", mechanism="PLAIN", username="me", password=SECRET, key_password="k"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(examination, "PAUSE", 0.01)
    monkeypatch.setattr(talk, "PATIENCE", 1.0)


@contextmanager
def broker(answer):
    """A port where every connection gets what `answer(link)` gives it; then it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.settimeout(10)
                    answer(link)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def hang_up(link):
    link.recv(1)


def babble(link):
    link.recv(1_000)
    link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def say_nothing(link):
    while link.recv(1_000):
        pass


def examined(address, security):
    return examination.examine(servers=[address], client_id="x", security=security).away


@pytest.mark.parametrize("answer", [hang_up, babble, say_nothing])
@pytest.mark.parametrize("security", [Security(), SASL, Security(protocol="SSL")])
def test_a_broker_that_does_not_answer_is_away_and_no_reason_to_end(answer, security):
    with broker(answer) as address:
        (line,) = examined(address, security)
    assert line.startswith(f"{address}: ")


@pytest.mark.parametrize("security", [Security(), SASL])
def test_a_port_that_nobody_listens_on_is_a_broker_that_is_away(security):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    link = Connection(
        bootstrap_servers=f"127.0.0.1:{port}", client_id="x", patience=0.2, security=security
    )
    with pytest.raises(Transient) as told:
        link.admin()
    assert str(told.value) == (
        f"no broker answers at 127.0.0.1:{port}: check kafka.bootstrap_servers and that the "
        f"cluster is up (127.0.0.1:{port}: Connection refused)"
    )


def test_a_host_that_has_no_address_is_a_broker_that_is_away():
    (line,) = examined("no-such-host.invalid:9092", SASL)
    assert line.startswith("no-such-host.invalid:9092: ")


# ApiVersions, version 0: SaslHandshake and SaslAuthenticate in version 1.
VERSIONS = bytes.fromhex("0000 00000002 0011 0001 0001 0024 0001 0001")
HANDSHAKE = b"\0\0" + b"\0\0\0\1" + b"\0\5PLAIN"


def until_the_password(link):
    """A broker that closes in mid-authentication, as one without SaslAuthenticate's error does."""
    for answer in (VERSIONS, HANDSHAKE):
        size = int.from_bytes(link.recv(4))
        request = link.recv(size)
        body = request[4:8] + answer
        link.sendall(len(body).to_bytes(4) + body)
    link.recv(1_000)


def test_a_broker_that_closes_during_authentication_each_time_ends_the_worker():
    with broker(until_the_password) as address, pytest.raises(Refused) as told:
        examined(address, SASL)
    assert str(told.value) == (
        f"{address} closes the connection during authentication: check user, password, mechanism "
        "and protocol; the broker's log has the reason"
    )


class Renewer:
    """Somebody who renews a token file, step by step, each when its time has come."""

    def __init__(self, path):
        self.path = path
        self.now = 1_000.0
        self.steps = []

    def write(self, content):
        self.path.write_bytes(content)
        os.utime(self.path, (self.now, self.now))

    def wait(self, seconds):
        self.now += seconds
        while self.steps and self.steps[0][0] <= self.now - 1_000.0:
            self.write(self.steps.pop(0)[1])

    def file(self):
        return TokenFile(self.path, clock=lambda: self.now, sleep=self.wait)


@pytest.fixture
def renewer(tmp_path):
    return Renewer(tmp_path / "token")


@pytest.mark.parametrize("text", [b"abc.def.", b"  abc.def.\n", b"\n\tabc.def.\r\n"])
def test_a_token_is_read_each_time_and_without_white_space(renewer, text):
    provider = renewer.file()
    renewer.write(b"before")
    assert provider.token() == "before"
    renewer.write(text)
    assert provider.token() == "abc.def."


def test_a_token_that_is_there_for_long_is_read_at_once(renewer):
    renewer.write(b"abc")
    renewer.now += 1
    assert renewer.file().token() == "abc"
    assert renewer.now == 1_001.0


@pytest.mark.parametrize(
    ("half", "slow"),
    [
        *itertools.product([b"", b"abc.def gh", None], [0.04, 0.15, 0.7]),
        (b"abc.", 0.04),
        (b"abc.", 0.15),  # after more, nothing tells half a token from a whole one
    ],
)
def test_a_token_that_is_being_written_is_waited_for(renewer, half, slow):
    if half is None:
        assert not renewer.path.exists()
    else:
        renewer.write(half)
    renewer.steps = [(slow, b"abc.def.ghi")]
    assert renewer.file().token() == "abc.def.ghi"


def test_a_clock_that_goes_wrong_holds_no_token_back(renewer):
    renewer.write(b"abc")
    renewer.now -= 3_600
    assert renewer.file().token() == "abc"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"a b", "holds more, or less, than one token"),
        (b"a\x01auth=Bearer b", "holds more, or less, than one token"),
        (b"\xff\xfe", "holds more, or less, than one token"),
    ],
)
def test_a_token_that_cannot_serve_is_refused_without_being_shown(renewer, content, why):
    if content is not None:
        renewer.write(content)
    with pytest.raises(Refused) as told:
        renewer.file().token()
    assert str(told.value) == f"kafka.sasl_token_file {renewer.path} {why}"
    assert renewer.now == pytest.approx(1_001.0)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("ca_file", "kafka.ssl_cafile {} cannot be loaded as PEM certificates: "),
        ("cert_file", "kafka.ssl_certfile {} cannot be loaded as PEM: "),
    ],
)
def test_a_file_that_is_no_pem_is_refused_in_one_line(tmp_path, field, line):
    path = tmp_path / "bad.pem"
    path.write_text("no PEM")
    with pytest.raises(Refused) as told:
        Security(protocol="SSL", key_file=path, **{field: path}).check()
    assert str(told.value).startswith(line.format(path))
    assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("password", [KEY_PASSWORD, "another", None])
def test_a_broken_certificate_is_not_taken_for_a_wrong_password(certificates, password, tmp_path):
    broken = tmp_path / "broken.pem"
    broken.write_text("no PEM")
    key = Path(certificates.key("locked"))
    security = Security(protocol="SSL", cert_file=broken, key_file=key, key_password=password)
    with pytest.raises(Refused, match=f"kafka.ssl_certfile {broken} cannot be loaded as PEM"):
        security.check()


def test_a_key_that_is_gone_is_told_in_one_line(certificates, tmp_path):
    security = Security(
        protocol="SSL", cert_file=Path(certificates.pem("worker")), key_file=tmp_path / "gone.key"
    )
    with pytest.raises(Refused, match=r"gone\.key cannot be read: No such file or directory"):
        security.check()


def test_no_secret_is_in_what_a_connection_prints():
    link = Connection(bootstrap_servers="a:1", client_id="x", security=SASL)
    assert SECRET not in f"{link} {link!r} {SASL}"
    assert "key_password" not in repr(SASL)
