"""What a cluster has on disk: for each node its configuration and data, and one log for all.

    HOME/broker.log                     what every node prints
    HOME/log4j2.properties
    HOME/node-1/server.properties
    HOME/node-1/data/meta.properties    made by `format`; has the cluster's id

Ports are the caller's: they change with each attempt to start.
"""

import base64
import re
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from worker.demo.broker.errors import BrokerError, log_end
from worker.demo.broker.jars import java_and_class_path
from worker.demo.broker.node import Node

QUORUM = 3
"""Controllers, and replicas: the fewest of which one can be lost."""

# To the console, where the virtual machine's own last words go as well.
_LOG4J = """
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} node-${sys:node} %-5p %c{1}: %m%n
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The directory of a cluster."""

    home: Path
    cluster_id: str
    heap: str
    """Java's largest heap for each broker, as `-Xmx` has it."""

    @classmethod
    def write(
        cls, home: Path, *, nodes: Sequence[Node], properties: Mapping[str, str], heap: str
    ) -> Self:
        """Writes every node's configuration, and formats the nodes that hold no data yet.

        Args:
            home: The directory.
            nodes: All of them, with their ports.
            properties: Broker properties, in addition to ours or in their place.
            heap: See above.

        Raises:
            BrokerError: Kafka refuses to format.
        """
        for node in nodes:
            folder = _folder(home, node)
            folder.mkdir(parents=True, exist_ok=True)
            values = _configuration(node, nodes, data=folder / "data", properties=properties)
            lines = [f"{name}={value}\n" for name, value in values.items()]
            (folder / "server.properties").write_text("".join(lines))
        (home / "log4j2.properties").write_text(_LOG4J)
        found = [path.read_text() for path in home.glob("node-*/data/meta.properties")]
        known = re.search(r"^cluster\.id=(.+)$", "".join(found), re.MULTILINE)
        layout = cls(home=home, cluster_id=known[1] if known else _new_cluster_id(), heap=heap)
        for node in nodes:
            if not (_folder(home, node) / "data" / "meta.properties").exists():
                layout._format(node)
        return layout

    def serve_command(self, node: Node) -> list[str]:
        """The command that runs a node."""
        return self._command(node, "kafka.Kafka", self._configuration_file(node))

    def _format(self, node: Node) -> None:
        arguments = ["format", "-t", self.cluster_id, "-c", self._configuration_file(node)]
        command = self._command(node, "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, check=False, capture_output=True, cwd=self.home)
        if done.returncode:
            end = log_end(done.stdout + done.stderr)
            raise BrokerError(f"cannot format the broker's directory:\n{end}")

    def _configuration_file(self, node: Node) -> str:
        return str(_folder(self.home, node) / "server.properties")

    def _command(self, node: Node, *arguments: str) -> list[str]:
        java, class_path = java_and_class_path()
        return [
            java,
            f"-Xmx{self.heap}",
            "-XX:+UseSerialGC",  # with one compiler tier: the least memory, the soonest start
            "-XX:TieredStopAtLevel=1",
            "--enable-native-access=ALL-UNNAMED",  # this and the next: no warnings in the log
            "--sun-misc-unsafe-memory-access=allow",
            f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}",
            f"-Dnode={node.number}",
            "-cp",
            class_path,
            *arguments,
        ]


def _folder(home: Path, node: Node) -> Path:
    return home / f"node-{node.number}"


def _configuration(
    node: Node, nodes: Sequence[Node], *, data: Path, properties: Mapping[str, str]
) -> dict[str, str]:
    replicas = QUORUM if len(nodes) >= QUORUM else 1
    in_sync = replicas // 2 + 1
    controllers = nodes[:replicas]
    controls = node in controllers
    voters = (f"{one.number}@127.0.0.1:{one.controller_port}" for one in controllers)
    own = {
        "node.id": node.number,
        "process.roles": "broker,controller" if controls else "broker",
        "controller.quorum.voters": ",".join(voters),
        "controller.listener.names": "CONTROLLER",
        "listeners": "PLAINTEXT://127.0.0.1:{port}"
        + (",CONTROLLER://127.0.0.1:{controller_port}" if controls else ""),
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": data,
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
    values = {name: str(value) for name, value in {**own, **properties}.items()}
    for mark, port in ports.items():
        values = {name: value.replace(mark, port) for name, value in values.items()}
    return values


def _new_cluster_id() -> str:
    # Kafka's own form: 16 bytes; a leading "-" would be read as an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode().replace("-", "_")
