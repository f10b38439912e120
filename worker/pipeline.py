"""Wires the stages and owns the threads: start, run, drain, stop.

    poll ──documents──► batch ──staged──► model ──outcomes──► publish
     │                    ▲                 │                    ▲ │
     │                    └────finished─────┘                    │ │
     ├──accepted, rejections, tombstones─────────────────────────┘ │
     └◄──────────────────────progress──────────────────────────────┘

Each mutable object has one owner among the threads; everything else is a message in one of four
queues. None of them is bounded itself: the poll thread takes in no more than ``Limits`` allows,
and counts a record until the broker has its output.

A drain is a barrier that follows the last record through every stage. A thread's failure is a
message to the main thread, which then stops all of them: nothing unacknowledged is committed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from queue import Empty, Queue, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from worker.errors import Fatal, Transient
from worker.stages.assemble import Assembler
from worker.stages.intake import Intake, Limits
from worker.stages.publish import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.batch import Budget
    from worker.decode import Decoder
    from worker.encode import Encoder
    from worker.endpoints import Health
    from worker.kafka.produce.writer import Refusal
    from worker.metrics import Metrics
    from worker.records import Lease, MicroBatch, Outcome, Output, Progress, Record
    from worker.stages.gate import Gate
    from worker.stages.inference import Classifier, Inference, Staged
    from worker.stages.intake import RecordSource
    from worker.stages.publish import OutputSink
    from worker.watchdog import Watchdog

log = structlog.get_logger(__name__)
T = TypeVar("T")

ACK_POLL = 0.002
"""Seconds between looks at unacknowledged outputs: adds half of it to the latency."""
HAND_BACK_SHARE = 0.6
"""Share of the drain deadline for which records that were read are still labelled. What is left
then is handed back: uncommitted, unpublished, and read again by the next owner."""
WATCH_SECONDS = 2.0
"""Pause between questions about topics and end offsets, on a connection of their own."""
LAST_WORDS_SHARE = 0.02
"""Share of the drain deadline in which, at its end, the threads of a drain that failed may end."""
CLOSE_SHARE = 0.15
"""Share of the drain deadline kept for the last commit and for leaving the group."""


class _Signal:
    """A message without content."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


DRAIN = _Signal("DRAIN")  # poll to batch: no more documents come
BARRIER = _Signal("BARRIER")  # batch to model to publish: all before it is done
ABORT = _Signal("ABORT")  # main to all: stop now


@dataclass(frozen=True, slots=True)
class _Finished:
    """Model to batch: one batch less is under way."""

    batch: MicroBatch
    out_of_memory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a pipeline is made of. The factories run on the threads that own their product."""

    decoder: Decoder
    classifier: Classifier
    inference: Inference
    encoder: Encoder
    budget: Budget
    limits: Limits
    drain_deadline: float
    outage_limit: float
    metrics: Metrics
    health: Health
    watchdog: Watchdog
    gate: Gate
    transactional: bool
    """Whether the sink commits offsets, together with the outputs."""
    make_sink: Callable[
        [Callable[[Output, Refusal], Output], Callable[[], bool], Intake], OutputSink
    ]
    make_source: Callable[[Intake], RecordSource]
    watch: Callable[[Intake], None]
    """Looks at the cluster; raises ``Transient`` when it does not answer, ``Fatal`` when a topic
    is gone."""


class Pipeline:
    """The running worker. All methods are the main thread's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._batch_inbox: SimpleQueue[Any] = SimpleQueue()
        self._model_inbox: SimpleQueue[Any] = SimpleQueue()
        self._publish_inbox: SimpleQueue[Any] = SimpleQueue()
        self._progress: SimpleQueue[Progress] = SimpleQueue()
        # Not a SimpleQueue: when a signal comes at the end of its timeout, SimpleQueue.get waits
        # for ever (CPython 3.11 and 3.12), and signals come to the main thread, which waits here.
        self._failures: Queue[BaseException] = Queue()
        self._published = threading.Event()
        self._can_write = threading.Event()
        self._stopping = threading.Event()
        self._aborting = threading.Event()
        self._drain_started = 0.0
        self._model_calls = 0
        self.intake = Intake(
            decoder=parts.decoder,
            limits=parts.limits,
            progress=self._progress,
            accept=self._publish_inbox.put,
            documents=self._batch_inbox.put,
            done=lambda outcomes: self._publish_inbox.put(tuple(outcomes)),
            ended=self._void,
            positions=self._publish_inbox.put if parts.transactional else None,
            gate=parts.gate,
            metrics=parts.metrics,
        )
        loops = {
            "poll": self._poll, "batch": self._batch, "model": self._model, "publish": self._publish
        }  # fmt: skip
        self._threads = [
            threading.Thread(target=self._guard, args=(loop,), name=name, daemon=True)
            for name, loop in loops.items()
        ]
        self._watcher = threading.Thread(
            target=self._guard, args=(self._watch,), name="watch", daemon=True
        )

    def start(self) -> None:
        """Starts the threads."""
        self._parts.watchdog.overdue()  # on its guard before anything can hang
        for thread in (*self._threads, self._watcher):
            thread.start()

    def failure(self, timeout: float) -> BaseException | None:
        """The first failure of a thread, waiting up to ``timeout`` seconds; or that one hangs."""
        try:
            return self._failures.get(timeout=timeout)
        except Empty:
            return self._parts.watchdog.overdue()

    def drain(self, *, hurried: Callable[[], bool]) -> BaseException | None:
        """Finishes what was accepted, commits it and leaves the group, inside the deadline.

        Args:
            hurried: Whether a second signal asked for the end at once.

        Returns:
            None, or why the drain failed.
        """
        deadline = time.monotonic() + self._parts.drain_deadline - self.last_words
        self._drain_started = time.monotonic()
        self._stopping.set()
        failure: BaseException | None = None
        while failure is None and any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > deadline:
                failure = Fatal(
                    f"the drain missed its deadline of {self._parts.drain_deadline:g} s: what was "
                    "not committed is read again"
                )
            elif hurried():
                failure = Fatal("aborted by a second signal: what was not committed is read again")
            else:
                failure = self.failure(timeout=0.01)
        failure = failure or self.failure(timeout=0)
        if failure is not None:
            self.abort()
        return failure

    def abort(self) -> None:
        """Stops and does not wait; nothing that is not acknowledged is committed."""
        self._aborting.set()
        self._stopping.set()
        for inbox in (self._batch_inbox, self._model_inbox, self._publish_inbox):
            inbox.put(ABORT)

    @property
    def last_words(self) -> float:
        """Seconds for ``join``, and for the end of the process, after a drain."""
        return LAST_WORDS_SHARE * self._parts.drain_deadline

    def join(self, timeout: float) -> bool:
        """Waits for the threads; whether all of them ended."""
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _guard(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: the main thread decides
            self._failures.put(error)

    def _void(self, leases: list[Lease]) -> None:
        gone = frozenset(leases)
        self._publish_inbox.put(gone)
        self._batch_inbox.put(gone)

    # The poll thread ------------------------------------------------------------------------

    def _poll(self) -> None:
        # The producer stands before the group is joined: a worker that cannot write holds no
        # partitions.
        health = self._parts.health
        source = None
        while not (self._can_write.wait(0.1) or self._stopping.is_set()):
            health.loop_turned = time.monotonic()
        if not self._stopping.is_set():
            source = self._reached(self._new_source)
        if source is None:
            self._batch_inbox.put(DRAIN)
            return
        try:
            while not self._stopping.is_set():
                self._turn(source, reading=True)
            self._batch_inbox.put(DRAIN)
            while not (self._published.is_set() or self._aborting.is_set()):
                self._turn(source, reading=False)
            if not self._aborting.is_set():
                self.intake.commit_last(source, timeout=self._left())
        finally:
            drained = self._published.is_set() and not self._aborting.is_set()
            source.close(timeout=self._left() if self._stopping.is_set() else 1.0, leave=drained)

    def _new_source(self) -> RecordSource:
        self._parts.health.loop_turned = time.monotonic()  # a broker that is away hangs nothing
        return self._parts.make_source(self.intake)

    def _turn(self, source: RecordSource, *, reading: bool) -> None:
        health, watchdog = self._parts.health, self._parts.watchdog
        health.loop_turned = now = time.monotonic()
        calls, self._model_calls = self._model_calls, watchdog.model.returned
        moved = self.intake.take_moved() or calls != self._model_calls
        if moved or health.moved is None or health.broker_silent():
            health.moved = now
        with watchdog.poll:
            self.intake.turn(source, reading=reading)

    def _left(self) -> float:
        spent = time.monotonic() - self._drain_started
        deadline = self._parts.drain_deadline
        return max(CLOSE_SHARE * deadline, (1 - CLOSE_SHARE) * deadline - spent)

    # The batch thread -----------------------------------------------------------------------

    def _batch(self) -> None:
        assembler = Assembler(
            classifier=self._parts.classifier,
            inference=self._parts.inference,
            budget=self._parts.budget,
            metrics=self._parts.metrics,
            rejected=lambda rejections: self._publish_inbox.put(tuple(rejections)),
        )
        while not assembler.done:
            message = _next(self._batch_inbox, assembler.patience(time.monotonic()))
            while message is not None:
                if message is ABORT:
                    return
                self._tell(assembler, message)
                message = _next(self._batch_inbox, 0.0)
            for staged in assembler.step(time.monotonic()):
                self._model_inbox.put(staged)
        self._model_inbox.put(BARRIER)

    def _tell(self, assembler: Assembler, message: Any) -> None:
        if isinstance(message, _Finished):
            assembler.finished(
                message.batch, out_of_memory=message.out_of_memory, now=time.monotonic()
            )
        elif message is DRAIN:
            share = HAND_BACK_SHARE * self._parts.drain_deadline
            assembler.drain(self._drain_started + share)
        elif isinstance(message, frozenset):
            assembler.void(message)
        else:
            assembler.add(message)

    # The model thread -----------------------------------------------------------------------

    def _model(self) -> None:
        inference, metrics = self._parts.inference, self._parts.metrics
        depth = self._parts.classifier.depth
        launched: deque[Any] = deque()
        barrier = False
        free_since = time.perf_counter()
        while True:
            while not barrier and len(launched) < depth:
                message = _next(self._model_inbox, 0.0 if launched else None)
                if message is None:
                    break
                if message is ABORT:
                    return
                if message is BARRIER:
                    barrier = True
                    break
                staged: Staged = message
                if not launched:
                    free_since = time.perf_counter()
                launched.append(inference.launch(staged))
            if launched:
                batch = launched[0].batch
                outcomes = inference.finish(launched.popleft())
                now = time.perf_counter()
                metrics.model_ran(now - free_since)
                free_since = now
                self._batch_inbox.put(_Finished(batch, inference.ran_out))
                self._publish_inbox.put(tuple(outcomes))
            elif barrier:
                self._publish_inbox.put(BARRIER)
                return

    # The publish thread ---------------------------------------------------------------------

    def _publish(self) -> None:
        publisher = Publisher(
            encoder=self._parts.encoder,
            metrics=self._parts.metrics,
            report=self._progress.put,
            judged=self._parts.gate.report,
        )
        sink = self._reached(
            lambda: self._parts.make_sink(publisher.replace, self._aborting.is_set, self.intake)
        )
        if sink is None:
            return
        self._can_write.set()
        barrier = False
        try:
            while not (barrier and len(sink) == 0):
                message = _next(self._publish_inbox, ACK_POLL if len(sink) else None)
                # All that is there first: a transaction takes as long for one output as for many.
                while message is not None:
                    if message is ABORT:
                        return
                    if message is BARRIER:
                        barrier = True
                    else:
                        self._handle(message, publisher, sink)
                    message = _next(self._publish_inbox, 0.0)
                publisher.settle(sink)
            publisher.settle(sink)
            self._published.set()
        finally:
            sink.close(timeout=1.0)

    def _handle(self, message: Any, publisher: Publisher, sink: OutputSink) -> None:
        if isinstance(message, list):
            accepted: list[Record] = message
            publisher.accept(accepted)
        elif isinstance(message, frozenset):
            publisher.drop(message)
            sink.forget(message)
        elif isinstance(message, dict):
            sink.commit_positions(message)
        else:
            outcomes: tuple[Outcome, ...] = message
            begin = time.perf_counter()
            publisher.publish(outcomes, sink)
            self._parts.metrics.stage_ran("publish", time.perf_counter() - begin)

    # The watch thread -----------------------------------------------------------------------

    def _watch(self) -> None:
        metrics, health = self._parts.metrics, self._parts.health
        heard = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._parts.watch(self.intake)
            except Transient as error:
                metrics.broker_reachable(reachable=False)
                log.warning("broker_away", error=str(error))
                silent = time.monotonic() - heard
                if silent > self._parts.outage_limit:
                    raise Fatal(
                        f"no broker has answered for {silent:.0f} s (kafka.outage_limit): nothing "
                        "unacknowledged was committed; it is read again after a restart"
                    ) from error
            else:
                metrics.broker_reachable(reachable=True)
                health.broker_heard = heard = time.monotonic()
            self._stopping.wait(WATCH_SECONDS)

    def _reached(self, make: Callable[[], T]) -> T | None:
        """What ``make`` makes, as soon as the broker answers; None when told to stop first."""
        while not self._stopping.is_set():
            try:
                return make()
            except Transient as error:
                log.warning("broker_away", error=str(error))
                self._stopping.wait(1.0)
        return None


def _next(inbox: SimpleQueue[Any], timeout: float | None) -> Any:
    """The next message; None when there is none in time."""
    try:
        return inbox.get(timeout=timeout) if timeout != 0 else inbox.get_nowait()
    except Empty:
        return None
