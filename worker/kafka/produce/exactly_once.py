"""Commits outputs and offsets in one transaction: exactly once. Owned by the publish thread.

Outputs are collected while the model works on, and sent as a span, which holds exactly the outputs
of the offsets that it commits. What an answer means here:

    aborted      send it again, with what has come since
    refused      replace the output, mostly by a dead letter, and send the span again
    unknown      go back to what the group has committed
    fenced       end the process: a new producer would fence the other worker
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, assert_never

import kafka.errors

from worker.errors import Fatal
from worker.kafka.produce.span import Aborted, Committed, Fenced, OutputRefused, Unknown
from worker.kafka.produce.span_times import SpanTimes
from worker.kafka.produce.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from worker.errors import Refusal
    from worker.kafka.produce.span import Spans
    from worker.kafka.produce.writer import Writer
    from worker.records import Lease, Output

PROOF_PAUSE = 0.01
"""Seconds between looks for a membership to commit with: a rebalance takes tenths of a second."""
RETRY_PAUSE = 0.1
"""Seconds before a span is sent again."""
FENCED_PAUSE = 3.0
"""Seconds before a fenced worker ends: two workers with one identity must not fence each other in
a fast loop."""


class Standing(Protocol):
    """What a transaction has to know of the group whose offsets it commits. Any thread."""

    @property
    def newest_epoch(self) -> int:
        """The newest epoch among the leases held; 0 where there is none."""

    def ended(self, leases: Iterable[Lease]) -> set[Lease]:
        """Those of the leases that are not held any more."""

    def proof(self, leases: Iterable[Lease]) -> Any | None:
        """The group metadata to commit offsets of these leases with; None while there is none."""

    def transaction(self) -> AbstractContextManager[None]:
        """While it is entered, a revocation waits, for a limited time, before leases end."""


@dataclass(frozen=True, slots=True)
class SpanLimits:
    """When a span is due, and what it holds at most."""

    seconds: float
    """From one span's begin to the next one's, while outputs follow."""
    records: int
    """Outputs of a span."""
    bytes: int
    """Bytes of those outputs, before compression. A single output may exceed it."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the sink calls to report."""

    rewind: Callable[[], None]
    """Called when it is unknown what was committed: the consumer has to go back to it."""
    on_commit: Callable[[str], None]
    """Called with `ok` or `failed` after every transaction."""
    on_error: Callable[[str], None]
    """Called with the error's name for every failed transaction."""


class TransactionalSink:
    """Gathers outputs and commits them with their offsets, span by span.

    Args:
        writer: Gives transactional producers.
        spans: Sends spans by these producers.
        standing: The membership of the consumer whose offsets are committed.
        replica_id: For the line that a fenced worker ends with.
        limits: When a span is full.
        replace: Makes the output to send instead of a refused one.
        callbacks: Called after transactions.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        spans: Spans,
        standing: Standing,
        replica_id: str,
        limits: SpanLimits,
        replace: Callable[[Output, Refusal], Output],
        callbacks: Callbacks,
    ) -> None:
        self._writer = writer
        self._spans = spans
        self._standing = standing
        self._replica_id = replica_id
        self._limits = limits
        self._replace = replace
        self._callbacks = callbacks
        self._waiting = Waiting()
        self._committed: list[Output] = []
        self._times = SpanTimes(limits.seconds)

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, output: Output) -> None:
        """Takes an output into the next span."""
        if self._waiting.void(output.record.lease):
            return
        certain = self._writer.forecast.refusal(output)
        if certain is not None:
            output = self._replace(output, certain)
        self._begin_waiting()
        self._waiting.add(output)

    def commit_positions(self, positions: Mapping[Lease, int]) -> None:
        """Takes offsets to commit that no output carries."""
        if self._waiting.take_positions(positions):
            self._begin_waiting()

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended: their outputs are not committed, since another owner reads them again."""
        self._waiting.forget(leases)
        if not len(self):
            self._rest()

    def take_acknowledged(self, *, following: int) -> list[Output]:
        """Outputs that are committed, in the order they were sent, each once.

        Runs a transaction when one is due; blocks until it ends, and while the broker is away.

        Args:
            following: Records in flight whose outputs are not sent yet; 0: no reason to wait.

        Raises:
            Fatal: Fenced, the outage limit has passed, or nothing can be written.
            Transient: The process is to stop.
        """
        due = self._times.due(following=following)
        waiting, limits = self._waiting, self._limits
        if due or len(waiting.outputs) >= limits.records or waiting.bytes >= limits.bytes:
            self._commit_span()
        committed, self._committed = self._committed, []
        return committed

    def close(self, *, timeout: float) -> None:
        """Ends the producer."""
        self._writer.discard(timeout=timeout)

    def _begin_waiting(self) -> None:
        if self._times.wait():
            if self._spans.failing:  # else an outage whose answers stay unknown would never end
                self._writer.outage.goes_on()
            else:
                self._writer.outage.succeeded()

    def _rest(self) -> None:
        self._times.rest()
        self._writer.outage.rests()

    def _commit_span(self) -> None:
        ended = self._standing.ended(self._waiting.leases())
        if ended:
            self.forget(ended)
        if not len(self):
            return
        if self._standing.proof(self._waiting.leases()) is None:
            # Between two memberships: either the leases end, or there is a generation again.
            self._writer.outage.check()
            time.sleep(PROOF_PAUSE)
            return
        records = self._spans.take(islice(self._waiting.sizes, self._limits.records))
        outputs, reached = self._waiting.span(records)
        offsets = {lease.partition: offset for lease, offset in reached.items()}
        with self._times.running():
            answer = self._spans.send(
                outputs, offsets, _GroupMember(self._standing, reached.keys())
            )
        if isinstance(answer, Committed):
            self._callbacks.on_commit("ok")
            self._waiting.committed(len(outputs), reached)
            self._committed += outputs
            self._times.rest()
            if len(self):
                self._times.at_once()
            return
        self._callbacks.on_error(type(answer.error).__name__)
        self._callbacks.on_commit("failed")
        self._times.at_once()
        self._recover(answer)

    def _recover(self, failure: OutputRefused | Aborted | Unknown | Fenced) -> None:
        match failure:
            case OutputRefused(_, refused):
                for at, refusal in refused.items():
                    output = self._replace(self._waiting.outputs[at], refusal)
                    self._waiting.replace(at, output)
                if refused:
                    self._replace_what_is_certain()
            case Aborted():
                self._writer.outage.check()
                time.sleep(RETRY_PAUSE)
            case Unknown():
                self._go_back()
            case Fenced(error, cause):
                time.sleep(FENCED_PAUSE)
                raise Fatal(
                    f"fenced ({type(cause).__name__}): another worker uses the replica identity "
                    f"{self._replica_id}, or this one stood still for too long; kafka.replica_id "
                    "(the host name by default) must be its own for every worker; nothing is lost"
                ) from error
            case _:
                assert_never(failure)

    def _replace_what_is_certain(self) -> None:
        """What was refused may foretell that others that wait are refused."""
        for at, output in enumerate(list(self._waiting.outputs)):
            certain = self._writer.forecast.refusal(output)
            if certain is not None:
                self._waiting.replace(at, self._replace(output, certain))

    def _go_back(self) -> None:
        """The group's offsets will say whether the span was committed."""
        self._writer.outage.check()
        self._waiting.forget_all(self._standing.newest_epoch)
        try:
            self._writer.ready()  # the old transaction ends: committed or aborted
        except kafka.errors.FencedInstanceIdError as error:
            self._recover(Fenced(error, error))
        self._rest()
        self._callbacks.rewind()


class _GroupMember:
    """The member of the group to which the leases of a span were given."""

    def __init__(self, standing: Standing, leases: AbstractSet[Lease]) -> None:
        self._standing = standing
        self._leases = leases

    def transaction(self) -> AbstractContextManager[None]:
        return self._standing.transaction()

    def proof(self) -> Any | None:
        return self._standing.proof(self._leases)

    def replaced_itself(self) -> bool:
        return bool(self._standing.ended(self._leases))
