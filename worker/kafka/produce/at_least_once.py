"""Sends outputs and collects acknowledgements, at least once. Owned by the publish thread.

An output that the topic is certain to refuse is never sent, one that may be too large is sent
alone, and after an unforeseen refusal the producer is replaced and the suspects are sent again one
by one, in order: only an output that is refused when it is sent alone counts as refused.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog

from worker.kafka.produce.writer import refusal_of, require_hope, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from worker.errors import Refusal
    from worker.kafka.produce.writer import Writer
    from worker.records import Lease, Output

log = structlog.get_logger(__name__)


class Sink:
    """Sends outputs in order and says which of them the broker has.

    Args:
        writer: Gives the producer.
        replace: Makes the output to send instead of a refused one.
        on_error: Called with the error's name for every failed send.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        replace: Callable[[Output, Refusal], Output],
        on_error: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._replace = replace
        self._on_error = on_error
        self._unacknowledged: deque[tuple[Any, Output]] = deque()
        self._acknowledged: list[Output] = []
        self._void: frozenset[Lease] = frozenset()

    def __len__(self) -> int:
        return len(self._unacknowledged)

    def send(self, output: Output) -> None:
        """Hands an output to the producer. Blocks while the broker is away and there is none.

        Raises:
            Fatal: The outage limit has passed, or nothing can be written.
        """
        if not self._unacknowledged:
            self._writer.succeeded()
        certain = self._writer.foretold(output)
        if certain is not None:
            output = self._replace(output, certain)
        if self._writer.oversized(output):
            self._settle_all()
            self._acknowledged.append(self._send_alone(output))
            return
        try:
            self._unacknowledged.append((send(self._writer.ready(), output), output))
        except (kafka.errors.KafkaError, ValueError) as error:
            self._resend(error, also=output)

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended: their outputs are not sent again, as another owner may be further on."""
        if self._unacknowledged:
            self._void |= leases

    def take_acknowledged(self, *, following: int) -> list[Output]:  # noqa: ARG002
        """Outputs that the broker has, in the order they were sent, each once.

        Args:
            following: Not used: every output is sent at once.

        Raises:
            Fatal: As for `send`.
        """
        self._collect()
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def close(self, *, timeout: float) -> None:
        """Closes the producer; what is not acknowledged by then is not waited for."""
        self._writer.discard(timeout=timeout)

    def _collect(self) -> None:
        queue = self._unacknowledged
        while queue and queue[0][0].is_done:
            future, output = queue[0]
            if future.exception is not None:
                self._resend(future.exception)
                return
            queue.popleft()
            self._writer.succeeded()
            self._acknowledged.append(output)
        if queue:
            self._writer.check_outage()

    def _settle_all(self) -> None:
        while self._unacknowledged:
            self._collect()
            if self._unacknowledged:
                time.sleep(0.001)

    def _resend(self, error: Exception, also: Output | None = None) -> None:
        """Replaces the producer and sends again all from the first unacknowledged output on.

        Also outputs behind it that were acknowledged: otherwise the order would be reversed.
        """
        queue = self._unacknowledged
        while queue and queue[0][0].is_done and queue[0][0].exception is None:
            self._acknowledged.append(queue.popleft()[1])
        entries = [(future.exception, output) for future, output in queue]
        entries += [(error, also)] if also is not None else []
        entries = [entry for entry in entries if entry[1].record.lease not in self._void]
        queue.clear()
        self._void = frozenset()
        name = type(error).__name__
        self._on_error(name)
        log.warning("producer_replaced", error=name, resending=len(entries))
        self._writer.discard(timeout=1.0)
        pending = [output for _, output in entries]
        refused = [refusal_of(failure) is not None for failure, _ in entries]
        if True in refused:
            # The refused output fails with its own error, others of its batch with another error,
            # and all later ones with the refused one's: it is the first such, or close behind.
            first = refused.index(True)
            self._send_all(pending[:first])
            self._settle_all()
            pending = self._find_refused(pending[first:])
        else:
            require_hope(error)
            self._writer.check_outage()
            time.sleep(0.1)
        self._send_all(pending)

    def _find_refused(self, pending: list[Output]) -> list[Output]:
        """Sends one by one until one is refused alone; returns those behind it."""
        for at, output in enumerate(pending):
            taken = self._send_alone(output)
            self._acknowledged.append(taken)
            if taken is not output:
                return pending[at + 1 :]
        return []

    def _send_all(self, pending: list[Output]) -> None:
        """Sends in order by one producer; starts again with another if that fails."""
        while True:
            try:
                producer = self._writer.ready()
                sent = [(send(producer, output), output) for output in pending]
            except (kafka.errors.KafkaError, ValueError) as error:
                self._try_again_after(error)
            else:
                self._unacknowledged.extend(sent)
                return

    def _send_alone(self, output: Output) -> Output:
        """Sends one output and waits; returns what the broker took in its place."""
        while True:
            try:
                send(self._writer.ready(), output).get(timeout=self._writer.outage_limit)
            except (kafka.errors.KafkaError, ValueError) as error:
                self._on_error(type(error).__name__)
                refusal = refusal_of(error)
                if refusal is not None:
                    self._writer.discard(timeout=1.0)
                    output = self._replace(output, refusal)
                else:
                    self._try_again_after(error)
            else:
                self._writer.succeeded()
                return output

    def _try_again_after(self, error: Exception) -> None:
        require_hope(error)
        self._writer.check_outage()
        self._writer.discard(timeout=1.0)
        time.sleep(0.1)
