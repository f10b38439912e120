"""Fixtures that the whole suite shares. Nothing heavy is imported before a test asks for it."""

import contextlib
import os
import signal
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from worker.demo.broker import BrokerError, EmbeddedKafka

ROOT = Path(__file__).resolve().parents[1]
_FALSE = {"", "0", "false", "no"}
# Of `wait_until` and of the proxy's faults: a busy machine's. What was counted is never among them.
_OUT_OF_TIME = ["not within .* s; last:", "not struck in"]
IN_CI = os.environ.get("CI", "").lower() not in _FALSE
KAFKA_REQUIRED = IN_CI or os.environ.get("REQUIRE_KAFKA", "").lower() not in _FALSE

# No deadlines: on a machine that others use too they measure the others.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")


# Of kafka-python, and not to be avoided by its users.
_IGNORED = (
    # It reads its schemas by functions that Python 3.11 and 3.12 deprecate, and 3.13 does not.
    ("(read|open)_text is deprecated", DeprecationWarning),
    # It leaves a socket whose connection was refused to the garbage collector (sock_connect in
    # kafka/net/inet.py): one that has an address of its own and no peer.
    (r"unclosed <socket\.socket [^>]*laddr=\('[0-9.]+', \d+\)>", ResourceWarning),
)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores it, and so would every program that a test interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for message, category in _IGNORED:
        config.addinivalue_line("filterwarnings", f"ignore:{message}:{category.__name__}")
        # The line above comes too late for what is collected after the last test.
        warnings.filterwarnings("ignore", message, category)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        if used & {"kafka", "own_kafka", "proxied_kafka"}:
            item.add_marker("kafka")
            # A wait that ran out is tried once more, and reported; a wrong count never is.
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=_OUT_OF_TIME))
        if "tweets" in used:
            item.add_marker("tweets")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


def _start(**options: Any) -> EmbeddedKafka:
    try:
        return EmbeddedKafka(**options).start()
    except BrokerError as error:
        if KAFKA_REQUIRED:
            pytest.fail(f"Kafka is required (CI or REQUIRE_KAFKA is set): {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap servers: the user's own cluster, or one embedded broker for the session."""
    if own := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield own
        return
    broker = _start(properties={"log.cleaner.backoff.ms": "500"})  # 15 s: the time of one test
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


@pytest.fixture
def own_kafka() -> Iterator[Callable[..., EmbeddedKafka]]:
    """Clusters of the test's own, to be killed: `own_kafka(nodes=3)`, started, ended after it."""
    started: list[EmbeddedKafka] = []

    def start(**options: Any) -> EmbeddedKafka:
        started.append(_start(**options))
        return started[-1]

    yield start
    for cluster in started:
        with contextlib.suppress(BrokerError):  # stopped by the test, its directory gone
            print(cluster.log_path.read_text()[-8_000:])  # shown where the test failed
        cluster.stop()


@pytest.fixture(scope="module")
def _proxied_kafka() -> Iterator[tuple[str, Any]]:
    from tests.support.proxy import Proxy

    with Proxy() as proxy:
        broker = _start(properties=proxy.broker_properties)
        try:
            yield broker.bootstrap_servers, proxy
        finally:
            broker.stop()


@pytest.fixture
def proxied_kafka(_proxied_kafka: tuple[str, Any]) -> tuple[str, Any]:
    """A broker behind a proxy that does damage on purpose: `direct, proxy = proxied_kafka`.

    `direct` are bootstrap servers past the proxy, `proxy.bootstrap_servers` those through it.
    One broker for a module's tests; each finds the proxy without faults and counts.
    """
    _proxied_kafka[1].clear()
    return _proxied_kafka


@pytest.fixture
def topic(kafka: str) -> Iterator[Callable[..., str]]:
    """Topics with names of their own, deleted after the test: `topic("tweets", partitions=4)`.

    Options are those of `create_topic`; `create=False` gives a name only.
    """
    from tests.support.kafka_helpers import admin, create_topic

    names: list[str] = []

    def make(name: str = "topic", *, create: bool = True, **options: Any) -> str:
        names.append(f"{name}-{uuid.uuid4().hex[:8]}")
        if create:
            create_topic(kafka, names[-1], **options)
        return names[-1]

    yield make
    if names:
        with admin(kafka) as client:
            client.delete_topics(names, raise_errors=False)  # the test may have deleted some


@pytest.fixture(scope="session")
def tweets() -> Path:
    """The directory of the real tweets: train.jsonl and validation.jsonl."""
    named = os.environ.get("EMOTION_TWEETS")
    path = Path(named) if named else ROOT.parent / "shared" / "datasets" / "emotion"
    if not (path / "train.jsonl").is_file():
        if named:
            pytest.fail(f"EMOTION_TWEETS: no train.jsonl in {path}", pytrace=False)
        pytest.skip(f"the real tweets are not in {path}: name their directory in EMOTION_TWEETS")
    return path
