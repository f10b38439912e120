"""Ports on loopback that nothing listens on."""

import itertools
import random
import socket

_PORTS = range(10_000, 32_768)
"""Above 32767 are the ephemeral ports of Linux: while a broker is down, a client that retries can
get the broker's own port as its source port, and the restart finds it taken."""


def free_ports(count: int) -> list[int]:
    """So many different ports on loopback that are free now; another process may take one."""
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
