"""Fixtures that the whole suite shares. Nothing heavy is imported before a test asks for it.

`make test` runs the suite in several processes. Each has a broker of its own; what is costly to
make is made once for all (`tests.support.processes`); tests marked `alone` have the machine to
themselves, at the end.
"""

import contextlib
import os
import signal
import uuid
import warnings
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.processes import Room, shared_folder
from tests.tools import java_cache, programs
from worker.demo.broker import BrokerError, EmbeddedKafka

ROOT = Path(__file__).resolve().parents[1]
_FALSE = {"", "0", "false", "no"}
# Of `wait_until` and of the proxy's faults: a busy machine's. What was counted is never among them.
_OUT_OF_TIME = ["not within .* s; last:", "not struck in"]
_LINUX = hasattr(os, "sched_getaffinity")
_ROOM = pytest.StashKey[Room]()
IN_CI = os.environ.get("CI", "").lower() not in _FALSE
KAFKA_REQUIRED = IN_CI or os.environ.get("REQUIRE_KAFKA", "").lower() not in _FALSE

_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ

# No deadlines: on a machine that others use too they measure the others.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")


# Of kafka-python, and not to be avoided by its users.
_SOCKET_OF_THE_CLIENT = (
    r"unclosed <socket\.socket [^>]*laddr=\('[0-9.]+', \d+\)"
    r"(, raddr=\('127\.0\.0\.1', ([12]\d|3[0-2])\d{3}\))?>"
)
_IGNORED = (
    # It reads its schemas by functions that Python 3.11 and 3.12 deprecate, and 3.13 does not.
    ("(read|open)_text is deprecated", DeprecationWarning),
    # It leaves a socket to the garbage collector (sock_connect in kafka/net/inet.py) where the
    # connection was refused: it has an address of its own and no peer; and where the client is
    # closed while it connects: the peer is a broker, whose port is below the ephemeral ones.
    (_SOCKET_OF_THE_CLIENT, ResourceWarning),
)


def pytest_configure(config: pytest.Config) -> None:
    programs.use()
    java_cache.use()
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
        if "untrained" in used:
            item.add_marker("slow")  # torch makes it
    items.sort(key=_turn)  # --random-order shuffles them after this


def _turn(item: pytest.Item) -> tuple[int, int]:
    """The long ones first, so that no process is left with one at the end; the lone ones last.

    Several processes take those of a file one by one. The long ones are mixed for them: files of
    tests that wait, and of tests that compute, would each have their time together.
    """
    marks = {mark.name for mark in item.iter_markers()}
    if "alone" in marks:
        return 3, 0
    if "slow" in marks or "kafka" in marks:
        return 0, zlib.crc32(item.nodeid.encode()) if _SEVERAL else 0
    return 1 if "heavy" in marks else 2, 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadscope`: files that share what is costly stay in one process, others do not."""
    if config.getvalue("dist") != "loadscope":
        return None
    from tests.support.together import Together

    return Together(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: three more than there are cores, since most tests mostly wait."""
    return 3 + min(6, len(os.sched_getaffinity(0)) if _LINUX else os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the timeout's clock starts
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    room = item.config.stash.get(_ROOM, None)
    if room is None:
        return (yield)
    room.enter(alone=_alone(item))
    try:
        return (yield)
    finally:
        if not (_alone(item) and _alone(nextitem)):  # else it stays: to be alone takes a wait
            room.leave()


def _alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = shared_folder(session.config._tmp_path_factory)
        session.config.stash[_ROOM] = Room(folder)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Before pytest's own summary: coverage, what ran twice and why, what did not run and why."""
    coverage = getattr(terminalreporter.config.pluginmanager.getplugin("_cov"), "cov_total", None)
    if coverage is not None:
        terminalreporter.write_line(f"coverage of lines and branches: {coverage:.1f} %")
    for report in terminalreporter.stats.get("rerun", []):
        reason = str(report.longrepr.reprcrash.message if report.longrepr else "").splitlines()
        terminalreporter.write_line(f"run twice: {report.nodeid}: {(reason or ['?'])[0]}")
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for tool, why in programs.missing().items():
        count = sum(f"{programs.LACKING}{tool}" in reason for reason in skipped)
        if count:
            line = (
                f"{count} tests not run: there is no {tool} ({why}). "
                f"Get it with: {programs.COMMAND}"
            )
            terminalreporter.write_line(line)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("tool"):
        programs.require(*mark.args)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint without a manifest, the same for all: a test that changes it takes a copy.

    It is made by a process of its own, and no torch is imported into the test's.
    """
    from tests.support import models

    return models.untrained(tmp_path_factory)


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


@pytest.fixture(scope="session")
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
    One broker for all of a process's tests; each finds the proxy without faults and counts.
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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For torch: a tiny model is slower with more, and much slower beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
