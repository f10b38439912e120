"""Whether anything listens at the brokers' addresses: found out in seconds, for `check`.

The client retries for ten seconds before it gives up, and then every broker is asked why. That is
right for a broker that is slow; for one that is absent, a TCP connection is enough to find out.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

from kafka.cluster import collect_hosts

PATIENCE = 3.0
"""Seconds for any of the addresses to accept a connection. A broker on another continent takes
0.3 s; a lost first packet is sent again after 1 s."""


def unreachable(servers: list[str], *, patience: float = PATIENCE) -> list[str]:
    """A line for each address if none accepts a connection; empty if one does.

    A broker that accepts is alive, however slow its answers are. All addresses are tried at once.

    Args:
        servers: `host:port` of the bootstrap brokers.
        patience: Seconds for all of them together.
    """
    addresses = [(host, port) for host, port, _ in collect_hosts(servers, randomize=False)]
    found: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    for host, port in addresses:
        # Daemons: a resolver that hangs takes longer than anybody waits here.
        threading.Thread(target=_connect, args=(host, port, patience, found), daemon=True).start()
    lines = {f"{host}:{port}": f"no connection within {patience:g} s" for host, port in addresses}
    end = time.monotonic() + patience
    for _ in addresses:
        with contextlib.suppress(queue.Empty):
            address, failure = found.get(timeout=max(0.0, end - time.monotonic()))
            if failure is None:
                return []
            lines[address] = failure
    return [f"{address}: {line}" for address, line in lines.items()]


def _connect(
    host: str, port: int, patience: float, found: queue.SimpleQueue[tuple[str, str | None]]
) -> None:
    failure = None
    try:
        socket.create_connection((host, port), patience).close()
    except (OSError, UnicodeError) as error:  # not a possible host name
        failure = getattr(error, "strerror", None) or str(error)
    found.put((f"{host}:{port}", failure))
