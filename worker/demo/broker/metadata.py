"""What one broker knows of its cluster, asked for without a client.

The Metadata request of the Kafka protocol guide, version 2, written out: a client's own retries
would hide the moment from which the broker answers.
"""

import socket
import struct
from dataclasses import dataclass

TIMEOUT = 2.0
"""Seconds for a broker to accept the connection and for each part of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """One broker's view of the cluster."""

    brokers: frozenset[int]
    """Numbers of the nodes that it takes to be up."""
    cluster_id: str


def ask(port: int) -> Metadata:
    """The view of the broker that listens on this port of loopback.

    Raises:
        OSError: It does not listen, does not answer in time, or closes the connection.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
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
            return Metadata(brokers=frozenset(brokers), cluster_id=take(number(2)).decode())
