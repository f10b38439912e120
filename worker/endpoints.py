"""/metrics, /livez and /readyz over HTTP. No request changes any state."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import make_wsgi_app

from worker.errors import Refused
from worker.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.registry import Collector

SETTLING = 60.0
"""Seconds that records may take to settle after the longest call of the model."""
BROKER_SILENCE = 10.0
"""Seconds without an answer from the cluster after which the worker is not ready."""
STUCK = 120.0
"""Seconds without a turn of the poll loop, or without progress of the records in flight, after
which the worker is not alive. A restart helps then. It does not help while the broker is away, but
the loop keeps turning meanwhile."""

LAST_SCRAPE = 30.0
"""Seconds that a worker with something to show waits for Prometheus: twice the interval of the
chart and of Compose."""


@dataclass(slots=True)
class Health:
    """The state that the probes report. Any thread may read; each field has one writer.

    All times are monotonic seconds.
    """

    clock: Callable[[], float]
    loop_turned: float | None = None
    """Written by the poll thread; None until it runs."""
    moved: float | None = None
    """When a record was last settled, a call of the model returned, no record was in flight or the
    broker was away. Written by the poll thread; None until it has a consumer."""
    model_ready: bool = False
    """Written by the thread of the start."""
    broker_heard: float | None = None
    """Written by the watch thread."""
    draining: bool = False
    """Written by the main thread."""
    bad_input: str | None = None
    """Why the breaker is open. Written by the poll thread."""
    patience: float = STUCK
    """Seconds that records in flight may make no progress before a restart helps: longer than a
    call of the model may take."""
    unacknowledged: tuple[float, float] | None = None
    """When outputs were last seen to wait for an acknowledgement, and for how many seconds then.
    Written by the publish thread; None while they do not wait for long."""

    def broker_silent(self) -> bool:
        """Whether the cluster has not answered for a while."""
        return self.broker_heard is None or self.clock() - self.broker_heard > BROKER_SILENCE

    def outputs_wait(self, seconds: float) -> None:
        """Outputs have waited so long without any acknowledgement; 0: they do no more."""
        self.unacknowledged = (self.clock(), seconds) if seconds else None

    def live(self) -> str | None:
        """None, or why a restart would help."""
        now = self.clock()
        if self.loop_turned is not None and now - self.loop_turned > STUCK:
            return f"the poll loop has not turned for {now - self.loop_turned:.0f} s"
        moved, waiting = self.moved, self.unacknowledged
        if moved is not None and waiting is not None:
            moved = max(moved, waiting[0])  # a restart does not make a partition writable
        if moved is not None and now - moved > self.patience:
            return f"no record in flight was settled for {now - moved:.0f} s"
        return None

    def ready(self) -> str | None:
        """None, or why no records can be labelled now."""
        waited = self.unacknowledged and self.unacknowledged[1]
        problems = (
            (self.draining, "the worker is draining"),
            (not self.model_ready, "the model is not loaded"),
            (self.broker_silent(), "the broker does not answer"),
            (self.moved is None, "the consumer has not started"),
            (waited, f"no output was acknowledged for {waited or 0:.0f} s"),
            (self.bad_input, f"most of the input is bad: {self.bad_input}"),
        )
        return next((problem for there, problem in problems if there), None)


class Probes(Protocol):
    """The answers of the probes: None, or what is wrong. Any thread may ask."""

    def live(self) -> str | None:
        """Why a restart would help."""

    def ready(self) -> str | None:
        """Why no records can be labelled now."""


class Endpoints:
    """The HTTP server, on a thread of its own.

    Args:
        host: Address to bind, IPv4 or IPv6; `::` serves both.
        port: Port to bind; 0 takes a free one.
        registry: Collects the metrics, for each request.
        health: The probes' answers.

    Raises:
        Refused: The address cannot be bound.
    """

    def __init__(self, *, host: str, port: int, registry: Collector, health: Probes) -> None:
        metrics = make_wsgi_app(registry)
        self._begun = self._shown = 0  # scrapes, and the last of them whose answer was sent

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            path, method = environ.get("PATH_INFO"), environ.get("REQUEST_METHOD")
            if path == "/metrics":
                self._begun += 1
                return _Body(metrics(environ, start), functools.partial(self._sent, self._begun))
            probes = {"/livez": health.live, "/readyz": health.ready}
            if path not in probes:
                return _plain(start, HTTPStatus.NOT_FOUND, "/metrics /livez /readyz")
            if method not in ("GET", "HEAD"):
                return _plain(start, HTTPStatus.METHOD_NOT_ALLOWED, "GET")
            problem = probes[path]()
            status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
            body = _plain(start, status, problem or "ok")
            return [] if method == "HEAD" else body

        try:
            self._server = Server(host, port, answer)
        except (OSError, OverflowError) as error:
            shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
            raise Refused(f"http: {shown}:{port} cannot be bound: {error}") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},  # how late close() is noticed
            name="http",
            daemon=True,
        )

    def start(self) -> None:
        """Serves until `close`."""
        self._thread.start()

    def last_scrape(self, *, stopped: Callable[[], bool]) -> None:
        """Waits until the metrics are read once more: nobody would see what was counted last.

        Waits `LAST_SCRAPE` seconds at most, and not at all where nobody has ever read them.

        Args:
            stopped: Whether to wait no longer.
        """
        begun, end = self._begun, time.monotonic() + LAST_SCRAPE
        while begun and self._shown <= begun and time.monotonic() < end and not stopped():
            time.sleep(0.05)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _sent(self, number: int) -> None:
        self._shown = max(self._shown, number)


class _Body(list[bytes]):
    """The body of an answer, which says when it was sent: the server closes it then."""

    def __init__(self, parts: Iterable[bytes], sent: Callable[[], None]) -> None:
        super().__init__(parts)
        self.close = sent


def _plain(start: Callable[..., Any], status: HTTPStatus, text: str) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
