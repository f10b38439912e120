"""An HTTP server that no client can hold: bounded in time, in connections and in descriptors.

Probes decide whether the process lives, so they are answered whatever other clients do. Each
connection serves one request and is closed `REQUEST_SECONDS` after it came, whatever is left of the
request or of the answer; where there are too many, the oldest is closed: probes take milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from worker import awake

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_SECONDS = 10.0
"""Seconds of one connection, from its first byte to its last: Prometheus scrapes with this timeout,
and a slow client is not worth a thread for longer."""
MOST_CONNECTIONS = 64
"""Connections at once, a thread each: far more than probes and scrapes need."""
RESERVE = 4
"""Descriptors that are kept for connections when the process has no others left."""
PAUSE_SECONDS = 0.1
"""Pause of the server when it cannot accept: the connection stays readable, so it would spin."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application at one address.

    Args:
        host: Address or name to bind, IPv4 or IPv6. `::` serves both.
        port: Port to bind; 0 takes a free one.
        application: What answers.

    Raises:
        OSError, OverflowError: The address cannot be bound.
    """

    daemon_threads = True
    request_queue_size = 128  # at 5, the default, a burst of connections holds a probe for seconds

    def __init__(self, host: str, port: int, application: Callable[..., Any]) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}  # the oldest first
        self._reserve: list[int] = []
        self.address_family, address = _resolved(host)
        super().__init__((address, port), _Handler)
        self.set_app(application)
        self._keep_reserve()

    def server_bind(self) -> None:
        """Binds; an IPv6 socket serves IPv4 too where its address stands for both."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[Any, Any]:
        """The next connection, from the reserve of descriptors where there are no others."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if self._reserve:
                os.close(self._reserve.pop())
                return super().get_request()
            self._close_oldest()
            time.sleep(PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection on a thread of its own."""
        with self._lock:
            self._deadlines[request] = awake.now() + REQUEST_SECONDS
            crowded = len(self._deadlines) > MOST_CONNECTIONS
        if crowded:
            self._close_oldest()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Closes the connections that are past their deadline. Called several times a second."""
        now = awake.now()
        with self._lock:
            late = [each for each, deadline in self._deadlines.items() if deadline < now]
        for _ in late:
            self._close_oldest()
        self._keep_reserve()

    def server_close(self) -> None:
        """Gives the port and the reserve back."""
        super().server_close()
        while self._reserve:
            os.close(self._reserve.pop())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs nothing of a client that disconnects, or does not speak HTTP."""

    def _close_oldest(self) -> None:
        """Its thread, which waits for the client, gets an end of file and ends."""
        with self._lock:
            oldest = next(iter(self._deadlines), None)
            if oldest is not None:
                del self._deadlines[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)

    def _keep_reserve(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._reserve) < RESERVE:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY))


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Logs nothing: probes come every few seconds, and would bury the worker's own lines."""


def _resolved(host: str) -> tuple[socket.AddressFamily, str]:
    """The family and the address of a host; IPv4 where it has both."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families: dict[int, str] = {family: str(address[0]) for family, *_, address in reversed(found)}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return family, families[family]
