"""Sends outputs and collects acknowledgements, at least once. Owned by the publish thread.

An output that the topic is certain to refuse is never sent, and one that may be too large is sent
alone. After an unforeseen refusal the producer is replaced. An output counts as refused only if the
broker named it, or refused it when it was alone in its batch: if the broker says less, the suspects
are sent again one by one, in order.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog

from worker.kafka.produce.refusals import blame, partition_of, refusal_of
from worker.kafka.produce.writer import require_hope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
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
        self._unsent: deque[Output] = deque()
        self._unacknowledged: deque[tuple[Any, Output]] = deque()
        self._acknowledged: list[Output] = []
        self._suspects = 0
        self._void: frozenset[Lease] = frozenset()

    def __len__(self) -> int:
        return len(self._unacknowledged)

    def send(self, output: Output) -> None:
        """Hands an output to the producer. Blocks while the broker is away and there is none.

        Raises:
            Fatal: The outage limit has passed, or nothing can be written.
        """
        if not self._unacknowledged:
            self._writer.outage.succeeded()
        output = self._hopeful(output)
        if self._writer.forecast.oversized(output):
            self._settle_all()
            self._suspects = 1
        self._unsent.append(output)
        self._send_unsent()

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended: their outputs are not sent again, as another owner may be further on."""
        if self._unacknowledged:
            open_ = {output.record.lease for _, output in self._unacknowledged}
            self._void = (self._void | leases) & open_

    def take_acknowledged(self, *, following: int) -> list[Output]:  # noqa: ARG002
        """Outputs that the broker has, each once.

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

    def _hopeful(self, output: Output) -> Output:
        """The output, or what to send instead of one that the topic is certain to refuse."""
        certain = self._writer.forecast.refusal(output)
        return output if certain is None else self._replace(output, certain)

    def _collect(self) -> None:
        queue, outage = self._unacknowledged, self._writer.outage
        before = len(self._acknowledged)
        failure = None
        while queue and failure is None and queue[0][0].is_done:
            failure = queue[0][0].exception
            if failure is None:
                self._acknowledged.append(queue.popleft()[1])
        if len(self._acknowledged) > before:
            outage.succeeded()
        elif queue and failure is None:
            outage.check()
        if failure is not None:
            self._take_back(failure)
            self._send_unsent()

    def _settle_all(self) -> None:
        while self._unacknowledged:
            self._collect()
            if self._unacknowledged:
                time.sleep(0.001)

    def _send_unsent(self) -> None:
        """Sends what is unsent, in order, by one producer after another."""
        while self._unsent:
            if self._suspects:
                self._send_suspect()
                continue
            try:
                appender, unsent = self._writer.ready(), self._unsent
                while unsent:
                    self._unacknowledged.append((appender.send(unsent[0]), unsent[0]))
                    unsent.popleft()
            except (kafka.errors.KafkaError, ValueError) as error:
                self._take_back(error)
        self._suspects = 0  # some may have ended with their leases
        if not self._unacknowledged:
            self._writer.outage.rests()

    def _take_back(self, error: Exception) -> None:
        """Ends the producer, and makes unsent what is not safe."""
        safe, unsafe = _parted(self._unacknowledged)
        self._acknowledged += safe
        self._unacknowledged.clear()
        if safe:
            self._writer.outage.succeeded()
        futures, outputs = [future for future, _ in unsafe], [output for _, output in unsafe]
        name = type(error).__name__
        self._on_error(name)
        log.warning(
            "producer_replaced",
            error=name,
            detail=str(error)[:200],
            resending=len(outputs) + len(self._unsent),
        )
        refused = self._refused(error, futures)
        self._writer.discard(timeout=1.0)
        if not refused and not self._suspects:
            require_hope(error)
            self._writer.outage.check()
            time.sleep(0.1)
        for at, refusal in refused.items():
            if outputs[at].record.lease not in self._void:
                self._writer.forecast.refused(outputs[at], refusal)
                outputs[at] = self._replace(outputs[at], refusal)
        self._unsent.extendleft(reversed(outputs))
        if refused:
            self._replace_what_is_certain()
        if self._void:
            kept = [one for one in self._unsent if one.record.lease not in self._void]
            self._unsent = deque(kept)
            self._void = frozenset()

    def _refused(self, error: Exception, futures: list[Any]) -> Mapping[int, Refusal]:
        """The refused outputs, by index; if none is named, how many are suspects is noted."""
        cause = self._writer.last_error
        found = blame(futures, cause)
        errors = (error, cause, *(future.exception for future in futures))
        if not found.refused and any(map(refusal_of, errors)):
            # The refused output fails with its own error, others of its batch with another error,
            # and all later ones with the refused one's.
            self._suspects = found.among or len(futures) + 1
        return found.refused

    def _send_suspect(self) -> None:
        """Sends the next output alone, until one of the suspects is refused."""
        output = self._unsent.popleft()
        taken = self._send_alone(output)
        self._acknowledged.append(taken)
        self._suspects -= 1
        if taken is not output:
            self._suspects = 0
            self._replace_what_is_certain()

    def _replace_what_is_certain(self) -> None:
        """What was refused may foretell that others that wait are refused."""
        self._unsent = deque(map(self._hopeful, self._unsent))

    def _send_alone(self, output: Output) -> Output:
        """Sends one output and waits; returns what the broker took in its place."""
        while True:
            try:
                future = self._writer.ready().send(output)
                while not future.is_done:
                    self._writer.outage.check()
                    time.sleep(0.001)
                future.get(timeout=0)
            except (kafka.errors.KafkaError, ValueError) as error:
                self._on_error(type(error).__name__)
                refusal = refusal_of(error)
                if refusal is not None:
                    self._writer.discard(timeout=1.0)
                    self._writer.forecast.refused(output, refusal, searched=True)
                    output = self._replace(output, refusal)
                else:
                    self._try_again_after(error)
            else:
                self._writer.outage.succeeded()
                return output

    def _try_again_after(self, error: Exception) -> None:
        require_hope(error)
        self._writer.outage.check()
        self._writer.discard(timeout=1.0)
        time.sleep(0.1)


def _parted(sent: Iterable[tuple[Any, Output]]) -> tuple[list[Output], list[tuple[Any, Output]]]:
    """The outputs that are safe, and those to be sent again, of what was sent.

    Of each partition all from its first output on that is not acknowledged are sent again, also
    those behind it that are: otherwise the order would be reversed. Other partitions' are safe:
    one that takes no writes must not have theirs sent again and again.
    """
    safe: list[Output] = []
    unsafe: list[tuple[Any, Output]] = []
    failed = set()
    for future, output in sent:
        partition = partition_of(future)
        if future.is_done and future.exception is None and partition not in failed:
            safe.append(output)
        else:
            failed.add(partition)
            unsafe.append((future, output))
    return safe, unsafe
