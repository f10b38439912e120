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
from typing import TYPE_CHECKING

from kafka.cluster import collect_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    causes = _tried(addresses, patience, enough=1)
    if None in causes.values():
        return []
    return [f"{named(*address)}: {cause}" for address, cause in causes.items()]


def named(host: str, port: int) -> str:
    """An address as bootstrap servers are written: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def deaf(
    addresses: Iterable[tuple[str, int]], *, patience: float = PATIENCE
) -> dict[tuple[str, int], str]:
    """The addresses that accept no connection, each with the cause. All are tried at once.

    Args:
        addresses: Of brokers.
        patience: Seconds for all of them together.
    """
    causes = _tried(list(addresses), patience)
    return {address: cause for address, cause in causes.items() if cause is not None}


def _tried(
    addresses: list[tuple[str, int]], patience: float, enough: int | None = None
) -> dict[tuple[str, int], str | None]:
    """Why each address does not accept; None for one that does.

    Args:
        addresses: Each is tried.
        patience: Seconds for all of them together.
        enough: Returns as soon as so many have accepted; None: as all have been tried.
    """
    found: queue.SimpleQueue[tuple[tuple[str, int], str | None]] = queue.SimpleQueue()
    for address in addresses:
        # Daemons: a resolver that hangs takes longer than anybody waits here.
        threading.Thread(target=_connect, args=(address, patience, found), daemon=True).start()
    causes: dict[tuple[str, int], str | None] = dict.fromkeys(
        addresses, f"no connection within {patience:g} s"
    )
    end = time.monotonic() + patience
    for _ in addresses:
        with contextlib.suppress(queue.Empty):
            address, cause = found.get(timeout=max(0.0, end - time.monotonic()))
            causes[address] = cause
        if enough is not None and list(causes.values()).count(None) >= enough:
            break
    return causes


def _connect(
    address: tuple[str, int],
    patience: float,
    found: queue.SimpleQueue[tuple[tuple[str, int], str | None]],
) -> None:
    failure = None
    try:
        socket.create_connection(address, patience).close()
    except (OSError, UnicodeError) as error:  # not a possible host name
        failure = getattr(error, "strerror", None) or str(error)
    found.put((address, failure))
