"""The embedded cluster: its brokers started, stopped, killed and suspended, all or one."""

import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from worker.demo.broker import metadata
from worker.demo.broker.errors import BrokerError, log_end
from worker.demo.broker.jars import java_and_class_path
from worker.demo.broker.layout import Layout
from worker.demo.broker.node import Node
from worker.demo.broker.ports import free_ports

STOP_SECONDS = 15.0
"""A controlled shutdown takes 0.2 s, without a quorum 5 s."""
DISCARD_SECONDS = 1.0
"""The same where the data is removed right after: there is nothing to save."""
POLL_SECONDS = 0.05
"""Pause between looks at a starting broker: each costs it less than 1 ms."""
ATTEMPTS = 3
"""Each with new ports: another process may take one between check and use."""


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
        self._nodes = [Node(number=number) for number in range(1, nodes + 1)]
        self._temporary = directory is None
        self._directory = directory.absolute() if directory else None
        self._layout: Layout | None = None  # None: the next start is a first one
        self._properties = dict(properties or {})
        self._heap = heap
        self._start_timeout = start_timeout

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of every node, with commas between, as clients take it."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self._nodes)

    @property
    def log_path(self) -> Path:
        """One file for all nodes: warnings, errors, and what the virtual machine prints.

        Raises:
            BrokerError: There is no directory: a temporary one exists only between start and stop.
        """
        if self._directory is None:
            raise BrokerError("the embedded broker is not started")
        return self._directory / "broker.log"

    def pid(self, node: int = 1) -> int:
        """The process id of a node's Java; 0 when it does not run."""
        (found,) = self._chosen(node)
        return found.pid if found.running else 0

    def start(self, node: int | None = None) -> Self:
        """Starts what does not run and waits until it serves.

        Raises:
            BrokerError: Something is missing, a broker died (with the end of its log), or
                it does not serve in time.
        """
        attempts = ATTEMPTS if self._layout is None else 1
        while True:
            first = self._layout is None
            attempts -= 1
            try:
                layout = self._layout or self._lay_out()
                self._launch([each for each in self._chosen(node) if not each.running], layout)
            except BrokerError as error:
                if first:
                    self._forget()
                if not attempts or "already in use" not in str(error):
                    raise
            else:
                return self

    def stop(self, node: int | None = None) -> None:
        """Sends SIGTERM, and SIGKILL after 15 s (1 s where all stop and the directory goes)."""
        discarded = node is None and self._temporary
        self._terminate(self._chosen(node), DISCARD_SECONDS if discarded else STOP_SECONDS)
        if node is None:
            self._forget()

    def kill(self, node: int | None = None) -> None:
        """Sends SIGKILL: no shutdown, nothing flushed. Returns when the process is gone."""
        self._kill(self._chosen(node))

    def restart(self, node: int | None = None) -> None:
        """Sends SIGTERM, then starts again on the same data and ports."""
        self._terminate(self._chosen(node), STOP_SECONDS)
        self.start(node)

    def suspend(self, node: int | None = None) -> None:
        """Sends SIGSTOP: connections stay open and nothing answers, within milliseconds."""
        for each in self._chosen(node):
            each.signal(signal.SIGSTOP)
            each.suspended = True

    def resume(self, node: int | None = None) -> None:
        """Sends SIGCONT to what was suspended."""
        for each in self._chosen(node):
            each.signal(signal.SIGCONT)
            each.suspended = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _chosen(self, node: int | None) -> list[Node]:
        return [each for each in self._nodes if node in {None, each.number}]

    def _terminate(self, nodes: Sequence[Node], grace: float) -> None:
        for node in nodes:
            node.signal(signal.SIGTERM)
            node.signal(signal.SIGCONT)  # a suspended one would not see the other
        deadline = time.monotonic() + grace
        for node in nodes:
            node.reap(max(0.0, deadline - time.monotonic()))
        self._kill(nodes)

    def _kill(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.signal(signal.SIGKILL)
        for node in nodes:
            if not node.reap(STOP_SECONDS):
                raise BrokerError(f"broker {node.number} (process {node.pid}) outlives SIGKILL")

    def _lay_out(self) -> Layout:
        """Chooses ports and writes the directory."""
        java_and_class_path()  # before anything is written: it may say that something is missing
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="emotion-kafka-"))
        ports = iter(free_ports(2 * len(self._nodes)))
        for node in self._nodes:
            node.port, node.controller_port = next(ports), next(ports)
        self._layout = Layout.write(
            self._directory, nodes=self._nodes, properties=self._properties, heap=self._heap
        )
        return self._layout

    def _forget(self) -> None:
        """The next start is a first one. Data that is not ours to remove stays."""
        self._layout = None
        if self._temporary and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _launch(self, nodes: Sequence[Node], layout: Layout) -> None:
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            for node in nodes:
                node.launch(
                    layout.serve_command(node),
                    log=log,
                    directory=layout.home,
                    doomed=layout.home if self._temporary else None,
                )
        try:
            self._await(nodes, layout.cluster_id, log_start)
        except BaseException:
            self._kill(nodes)
            raise

    def _await(self, nodes: Sequence[Node], cluster_id: str, log_start: int) -> None:
        """Returns when each of the nodes serves, and knows every other one that can."""
        deadline = time.monotonic() + self._start_timeout
        waiting = list(nodes)
        while waiting:
            dead = [str(node.number) for node in waiting if not node.running]
            late = time.monotonic() > deadline
            if dead or late:
                end = log_end(self.log_path.read_bytes()[log_start:])
                number = ", ".join(dead or [str(node.number) for node in waiting])
                fate = "died" if dead else f"does not serve after {self._start_timeout:.0f} s"
                raise BrokerError(f"broker {number} {fate}; the end of its log:\n{end}")
            time.sleep(POLL_SECONDS)
            up = {node.number for node in self._nodes if node.running and not node.suspended}
            waiting = [node for node in waiting if not _serves(node, cluster_id, up)]


def _serves(node: Node, cluster_id: str, up: set[int]) -> bool:
    try:
        seen = metadata.ask(node.port)
    except OSError:
        return False
    return seen.cluster_id == cluster_id and seen.brokers >= up
