"""Apache Kafka with TLS, SASL and ACLs on: every way in, and what is said of a wrong one."""

import json
import os
import subprocess
import sys
import types
import uuid

import pytest

from tests.conftest import KAFKA_REQUIRED
from tests.support.fakes import StubClassifier, expected_label
from tests.support.kafka_helpers import (
    Message,
    committed,
    create_topic,
    end_offsets,
    produce,
    read_all,
    wait_until,
)
from tests.support.secure_kafka import KEY_PASSWORD, PASSWORDS, SecureKafka
from tests.support.worker_process import ROOT, WorkerProcess
from worker.__main__ import main
from worker.demo.broker import BrokerError

pytestmark = pytest.mark.kafka

WAYS = ("SSL", "mTLS", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
WRONG = "wr0ng-5ecret"


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    cluster = SecureKafka(tmp_path_factory.mktemp("secure"))
    try:
        cluster.start()
    except BrokerError as error:
        if KAFKA_REQUIRED:
            pytest.fail(f"Kafka is required (CI or REQUIRE_KAFKA is set): {error}", pytrace=False)
        pytest.skip(str(error))
    yield cluster
    print(cluster.log[-8_000:])
    cluster.stop()


class Topics:
    """Three topics and a group of a worker's own, and the permissions that it needs."""

    def __init__(self, bootstrap):
        mark = uuid.uuid4().hex[:6]
        self.group = f"group-{mark}"
        self.input, self.output, self.dlq = (f"{role}-{mark}" for role in ("in", "out", "dlq"))
        for name in (self.input, self.output, self.dlq):
            create_topic(bootstrap, name)

    @property
    def needs(self):
        return {
            "group": ("Read", "group", self.group),
            "input": ("Read", "topic", self.input),
            "output": ("Write", "topic", self.output),
            "dlq": ("Write", "topic", self.dlq),
        }

    @property
    def settings(self):
        return {
            "group": self.group,
            "input_topic": self.input,
            "output_topic": self.output,
            "dlq_topic": self.dlq,
        }


@pytest.fixture(scope="module")
def common(secure):
    """Topics for those that never get so far as to read them."""
    return Topics(secure.plaintext)


@pytest.fixture
def worker(tmp_path):
    made = []

    def make(topics, **options):
        made.append(WorkerProcess(directory=tmp_path, **topics.settings, **options))
        return made[-1]

    yield make
    for process in made:
        process.__exit__()


@pytest.fixture
def check(monkeypatch, capfd):
    """What `emotion-worker check` says: its exit code and what it prints, on a stub model."""
    stub = StubClassifier()
    stub.device, stub.dtype = "cpu", "float32"
    # In the place of a checkpoint, and of torch: neither is what is tested.
    loader = types.SimpleNamespace(load=lambda **_: stub)
    monkeypatch.setitem(sys.modules, "worker.model.load", loader)
    monkeypatch.setattr("worker.check._checkpoint", lambda *_: stub)
    monkeypatch.setattr("worker.logs.configure", lambda **_: None)

    def run(process):
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("WORKER_")]:
                patch.delenv(name)
            for name, value in process.environment.items():
                if name.startswith("WORKER_") and name != "WORKER_SECRETS_DIR":
                    patch.setenv(name, value)
            capfd.readouterr()
            return main(["check"]), *capfd.readouterr()

    return run


def last_line(process):
    """The one error of a worker that ended."""
    (line,) = [event["event"] for event in process.events() if event.get("level") == "error"]
    return line


def values(*numbers):
    return [json.dumps({"text": f"message {number}", "id": number}) for number in numbers]


def secrets_of(secure):
    return [
        *(password for _, password in PASSWORDS.values()),
        *(secure.token_file.read_text().strip().split(".")[1:2]),
        KEY_PASSWORD,
        WRONG,
    ]


def assert_nothing_secret(secure, *texts):
    for secret in secrets_of(secure):
        for form in (secret, repr(secret.encode())[2:-1], json.dumps(secret)[1:-1]):
            for text in texts:
                assert form not in text


# What works -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_worker_labels_through_every_way_in_with_no_more_than_it_needs(
    secure, worker, check, tmp_path, way
):
    topics = Topics(secure.plaintext)
    settings, principal = secure.settings(way)
    if principal != "ANONYMOUS":
        secure.allow(principal, *topics.needs.values())
    process = worker(topics, **settings, log__level="debug")

    code, *said = check(process)
    assert code == 0, said
    if way == "SCRAM-SHA-512":  # from a file, as Kubernetes mounts it
        folder = tmp_path / "secrets"
        folder.mkdir()
        password = process.environment.pop("WORKER_KAFKA__SASL_PASSWORD")
        (folder / "WORKER_KAFKA__SASL_PASSWORD").write_text(f"{password}\n")
        process.environment["WORKER_SECRETS_DIR"] = str(folder)
    produce(secure.plaintext, topics.input, [*values(*range(50)), "no json"])
    process.start()
    process.wait_processed(51)
    assert process.stop() == 0

    outputs = read_all(secure.plaintext, topics.output)
    assert {json.loads(output.value)["id"] for output in outputs} == set(range(50))
    assert all(
        json.loads(o.value)["label"] == expected_label(f"message {json.loads(o.value)['id']}")
        for o in outputs
    )
    (letter,) = read_all(secure.plaintext, topics.dlq)
    assert letter.value == b"no json"
    assert committed(secure.plaintext, topics.group) == end_offsets(secure.plaintext, topics.input)
    log = process.log_path.read_text()
    assert "FetchRequest" in log, "the client writes at debug"
    assert_nothing_secret(secure, log, *said)


def transactional(topics):
    """Settings of an exactly-once replica, and the one permission more that it needs."""
    settings = {"delivery__guarantee": "exactly_once", "kafka__replica_id": "a"}
    return settings, ("Write", "transactional_id", f"{topics.group}-a")


def test_exactly_once_needs_one_permission_more(secure, worker, check):
    topics = Topics(secure.plaintext)
    settings, principal = secure.settings("SCRAM-SHA-512")
    more, need = transactional(topics)
    secure.allow(principal, *topics.needs.values(), need)
    process = worker(topics, **settings, **more)
    assert check(process)[0] == 0
    produce(secure.plaintext, topics.input, values(*range(20)))
    process.start()
    process.wait_processed(20)
    assert process.stop() == 0
    outputs = read_all(secure.plaintext, topics.output, "read_committed")
    assert sorted(json.loads(output.value)["id"] for output in outputs) == list(range(20))


@pytest.mark.parametrize("granted", ["Describe", None])
def test_without_the_permission_for_transactions_run_ends_with_it(secure, worker, check, granted):
    topics = Topics(secure.plaintext)
    settings, principal = secure.settings("SCRAM-SHA-512")
    more, need = transactional(topics)
    secure.allow(principal, *topics.needs.values())
    if granted:
        secure.allow(principal, (granted, *need[1:]))
    process = worker(topics, **settings, **more)
    line = (
        f"permission is missing: add an ACL: operation Write on transactional id {need[2]} for "
        f"user {principal}"
    )
    # With Describe only trying would tell, and trying ends a running replica's transactions.
    code, _, err = check(process)
    assert (code, err) == ((0, "") if granted else (2, f"emotion-worker: {line}\n"))
    process.start(ready=False)
    assert process.wait(90) == 2
    assert last_line(process) == line


def test_a_token_is_read_again_when_it_has_expired(secure, worker, tmp_path):
    files = {name: tmp_path / name for name in ("renewed", "forgotten")}
    workers, topics = {}, {}
    for name, file in files.items():
        topics[name] = Topics(secure.plaintext)
        settings, principal = secure.settings("OAUTHBEARER")
        secure.allow(principal, *topics[name].needs.values())
        settings["kafka__sasl_token_file"] = file
        secure.new_token(file, lifetime=10)
        workers[name] = worker(topics[name], **settings).start(ready=False)

    def ready():
        secure.new_token(files["renewed"], lifetime=10)
        return workers["renewed"].get("/readyz")[0] == 200

    wait_until(ready, 90, "the worker is ready", every=1)
    secure.new_token(files["renewed"])
    # The broker ends a connection with its token.
    assert workers["forgotten"].wait(90) == 2
    produce(secure.plaintext, topics["renewed"].input, values(1))
    workers["renewed"].wait_processed(1)
    assert workers["renewed"].stop() == 0

    assert last_line(workers["forgotten"]) == (
        f"{secure.ways.sasl_tls} refuses the subject of the token by OAUTHBEARER: "
        f'{{"status":"invalid_token"}}: check the token in kafka.sasl_token_file '
        f"{files['forgotten']}"
    )


def redriven(secure, topics, *options):
    """Runs a redrive by SCRAM: exit code, output, lines of standard error."""
    process = WorkerProcess(
        directory=secure.certificates.folder, **topics.settings, **scram(secure)
    )
    done = subprocess.run(
        [sys.executable, "-m", "worker", "redrive", *options], cwd=ROOT, env=process.environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert_nothing_secret(secure, done.stdout, done.stderr)
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_a_redrive_and_its_dry_run_need_no_more_than_what_is_told(secure):
    topics = Topics(secure.plaintext)
    group, principal = f"{topics.dlq}-redrive", secure.settings("SCRAM-SHA-512")[1]
    told = [("dlq.reason", "empty_text"), ("dlq.message", ""), ("dlq.topic", topics.input),
            ("dlq.partition", "0"), ("dlq.offset", "0"), ("dlq.timestamp", "1")]  # fmt: skip
    headers = tuple((name, value.encode()) for name, value in told)
    produce(secure.plaintext, topics.dlq, [Message(value=b"v", headers=headers)])

    def lacking(*operations, options=()):
        acls = "an ACL" if len(operations) == 1 else "ACLs"
        code, out, (line,) = redriven(secure, topics, *options)
        wanted = " and ".join(f"operation {operation}" for operation in operations)
        assert (code, out) == (2, "")
        assert line == (
            f"emotion-worker: permission is missing: add {acls}: {wanted} for user {principal}"
        )

    dry = ("--dry-run",)
    lacking(
        f"Describe on topic {topics.input}", f"Read on topic {topics.dlq}",
        f"Read on group {group}", options=dry,
    )  # fmt: skip
    secure.allow(
        principal, ("Describe", "topic", topics.input), ("Read", "topic", topics.dlq),
        ("Read", "group", group),
    )  # fmt: skip
    code, out, err = redriven(secure, topics, *dry)
    assert (code, err) == (0, [])
    assert f"would be put back on {topics.input}" in out
    lacking(
        f"Write on topic {topics.input}", f"Write on topic {topics.dlq}",
        f"Write on transactional id {group}",
    )  # fmt: skip
    secure.allow(
        principal, ("Write", "topic", topics.input), ("Write", "topic", topics.dlq),
        ("Write", "transactional_id", group),
    )  # fmt: skip
    code, _, err = redriven(secure, topics)
    assert (code, err) == (0, [])
    (back,) = read_all(secure.plaintext, topics.input, "read_committed")
    assert back.value == b"v"


# What does not, and what is said ----------------------------------------------------------------


def login(secure, way, **changes):
    changed = {**secure.settings(way)[0], **changes}
    return {name: value for name, value in changed.items() if value is not None}


def scram(secure, **changes):
    return login(secure, "SCRAM-SHA-512", **changes)


def tls(secure, **changes):
    return login(secure, "SSL", **changes)


WAYS_IN = {
    "a wrong password, SCRAM": lambda s: scram(s, kafka__sasl_password=WRONG),
    "a wrong password, PLAIN": lambda s: login(s, "PLAIN", kafka__sasl_password=WRONG),
    "a mechanism that is not offered": lambda s: login(
        s,
        "PLAIN",
        bootstrap=s.ways.sasl_plaintext,
        kafka__security_protocol="SASL_PLAINTEXT",
        kafka__ssl_cafile=None,
    ),
    "an unknown authority": lambda s: scram(s, kafka__ssl_cafile=s.certificates.pem("foreign")),
    "another host's certificate": lambda s: tls(s, bootstrap=s.ways.other_host),
    "no client certificate": lambda s: tls(s, bootstrap=s.ways.mutual_tls),
    "a stranger's client certificate": lambda s: tls(
        s,
        bootstrap=s.ways.mutual_tls,
        kafka__ssl_certfile=s.certificates.pem("stranger"),
        kafka__ssl_keyfile=s.certificates.key("stranger"),
    ),
    "a locked key without its password": lambda s: tls(
        s,
        bootstrap=s.ways.mutual_tls,
        kafka__ssl_certfile=s.certificates.pem("worker"),
        kafka__ssl_keyfile=s.certificates.key("locked"),
    ),
    "plaintext to a TLS port": lambda s: {"bootstrap": s.ways.tls},
    "TLS to a plaintext port": lambda s: tls(s, bootstrap=s.plaintext),
    "SASL to a port without": lambda s: scram(s, bootstrap=s.ways.tls),
    "no SASL to a port with": lambda s: {"bootstrap": s.ways.sasl_plaintext},
    "a file that is no certificate": lambda s: tls(
        s, kafka__ssl_cafile=s.certificates.key("worker")
    ),
}

CAUSES = {
    "a wrong password, SCRAM": (
        "{sasl_tls} refuses user scram-512 by SCRAM-SHA-512: Authentication failed during "
        "authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512: check "
        "kafka.sasl_username and kafka.sasl_password"
    ),
    "a wrong password, PLAIN": (
        "{sasl_tls} refuses user plain-user by PLAIN: Authentication failed: Invalid username or "
        "password: check kafka.sasl_username and kafka.sasl_password"
    ),
    "a mechanism that is not offered": (
        "{sasl_plaintext} does not offer kafka.sasl_mechanism PLAIN, it offers SCRAM-SHA-512"
    ),
    "an unknown authority": (
        "the certificate of {sasl_tls} is not trusted (unable to get local issuer certificate): "
        "kafka.ssl_cafile ({folder}/foreign.pem) must hold the authority that signed it"
    ),
    "another host's certificate": (
        "the certificate of {other_host} is another host's (IP address mismatch, certificate is "
        "not valid for '127.0.0.1'): reach the broker by a name that its certificate has, or give "
        "it a certificate with this one"
    ),
    "no client certificate": (
        "{mutual_tls} asks for a client certificate (certificate required): set "
        "kafka.ssl_certfile and kafka.ssl_keyfile"
    ),
    "a stranger's client certificate": (
        "{mutual_tls} refuses the client certificate kafka.ssl_certfile {folder}/stranger.pem "
        "(certificate unknown): is it in date, and signed by an authority that the broker trusts?"
    ),
    "a locked key without its password": (
        "kafka.ssl_keyfile {folder}/locked.key is encrypted: kafka.ssl_key_password is not set"
    ),
    "plaintext to a TLS port": ("{tls} uses TLS: set kafka.security_protocol to SSL or SASL_SSL"),
    "TLS to a plaintext port": (
        "{plaintext} does not use TLS: use the broker's TLS port, or set "
        "kafka.security_protocol to PLAINTEXT"
    ),
    "SASL to a port without": (
        "{tls} does not use SASL: use the broker's SASL port, or set kafka.security_protocol to SSL"
    ),
    "no SASL to a port with": (
        "{sasl_plaintext} asks for SASL (SCRAM-SHA-512): set kafka.security_protocol to "
        "SASL_PLAINTEXT and kafka.sasl_mechanism"
    ),
    "a file that is no certificate": (
        "kafka.ssl_cafile {folder}/worker.key cannot be loaded as PEM certificates: no "
        "certificate or crl found"
    ),
}


@pytest.mark.parametrize("wrong", CAUSES)
def test_a_wrong_way_in_ends_check_and_run_with_its_cause(secure, common, worker, refused, wrong):
    line = CAUSES[wrong].format(
        **vars(secure.ways), plaintext=secure.plaintext, folder=secure.certificates.folder
    )
    refused(worker(common, **WAYS_IN[wrong](secure)), line)


@pytest.fixture
def refused(secure, check):
    """`run` and `check` end with 2 and this line."""

    def prove(process, line):
        process.start(ready=False)
        code, out, err = check(process)
        assert err == f"emotion-worker: {line}\n"
        assert code == 2
        assert process.wait(90) == 2
        assert last_line(process) == line
        assert_nothing_secret(secure, process.log(), out, err)

    return prove


TOKENS = {
    "a.b.c": "{sasl_tls} refuses the subject of the token by OAUTHBEARER: "
    '{{"status":"invalid_token"}}: check the token in kafka.sasl_token_file {token}',
    "": "kafka.sasl_token_file {token} is empty",
    "two words": "kafka.sasl_token_file {token} holds more, or less, than one token",
}


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_cannot_serve_ends_check_and_run_with_its_cause(
    secure, common, worker, refused, token
):
    file = secure.certificates.folder / "bad-token"
    file.write_text(token)
    settings = login(secure, "OAUTHBEARER", kafka__sasl_token_file=file)
    refused(worker(common, **settings), TOKENS[token].format(**vars(secure.ways), token=file))


@pytest.mark.parametrize("lacking", ["group", "input", "output", "dlq"])
def test_a_missing_acl_ends_check_and_run_with_the_one_to_add(secure, worker, refused, lacking):
    topics = Topics(secure.plaintext)
    settings, principal = secure.settings("SCRAM-SHA-256")
    for name, need in topics.needs.items():
        # Describe is not enough, and shows that it is not what is missing.
        secure.allow(principal, ("Describe", *need[1:]) if name == lacking else need)
    operation, kind, resource = topics.needs[lacking]
    refused(
        worker(topics, **settings),
        f"permission is missing: add an ACL: operation {operation} on {kind} {resource} for user "
        f"{principal}",
    )


def test_without_any_acl_all_that_are_missing_are_told_at_once(secure, common, worker, refused):
    settings, principal = secure.settings("SCRAM-SHA-256")
    refused(
        worker(common, **settings),
        f"permission is missing: add ACLs: operation Read on topic {common.input} and operation "
        f"Write on topic {common.output} and operation Write on topic {common.dlq} and operation "
        f"Read on group {common.group} for user {principal}",
    )


@pytest.mark.parametrize("lost", ["group", "input", "output", "dlq"])
def test_a_permission_taken_away_while_running_ends_the_worker_and_is_told(secure, worker, lost):
    topics = Topics(secure.plaintext)
    settings, principal = secure.settings("SCRAM-SHA-512")
    secure.allow(principal, *topics.needs.values())
    process = worker(topics, **settings, kafka__metadata_max_age=1)
    process.start()
    secure.forbid(principal, *topics.needs[lost])
    produce(secure.plaintext, topics.input, [*values(1), "no json"])
    assert process.wait(90) == 2
    operation, kind, resource = topics.needs[lost]
    assert last_line(process) == (
        f"permission is missing: add an ACL: operation {operation} on {kind} {resource} for user "
        f"{principal}"
    )
