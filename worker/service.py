"""The worker as a process: start-up in order, signals, exit code.

    signal handlers -> HTTP ─┬─ topics (waits for the cluster)          ─┬─ producer -> group
                             └─ model: import, weights, tuning, warm-up ─┘

Both run aside: the main thread waits for a signal meanwhile, which interrupts no library.
A replica without a warm model never holds partitions, and the probes answer from the first second.
A problem of the topics is logged without waiting for the model, and the other way round.
"""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from worker import awake, garbage
from worker.aside import Aside
from worker.classifier import batching
from worker.connect import checked, connection, explained
from worker.endpoints import SETTLING, STUCK, Endpoints, Health
from worker.errors import EXIT_DRAINED, EXIT_FAILED, DeviceLost, Fatal, Transient
from worker.kafka.cluster.topics import TopicDesk
from worker.laps import Laps
from worker.last_resort import LAST_RESORT
from worker.loading import Loading
from worker.logs import Lasting
from worker.metrics import Buckets, Metrics
from worker.signals import DrainSignals, StoppedEarly
from worker.watchdog import end_at_once, limited
from worker.wiring import Parts, wired

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.classifier import Batching, Classifier
    from worker.kafka.cluster.topics import Topics
    from worker.pipeline import Pipeline
    from worker.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 2.0
"""Longest wait for a first look at the checkpoint, which takes milliseconds, before the cluster is
asked, which takes minutes while it is away. A volume that hangs delays the start no longer."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The model after its warm-up, the limits in force, and seconds of loading and warm-up."""

    classifier: Classifier
    limits: Batching
    laps: Laps


def serve(
    settings: Settings,
    *,
    load: Callable[[], Classifier],
    look: Callable[[], None] = lambda: None,
    signals: DrainSignals | None = None,
    listening: Callable[[int], None] = lambda _: None,
) -> int:
    """Runs the worker until a signal drains it or it fails.

    Args:
        settings: All settings.
        load: Makes the model, which may be any `Classifier`. Called on a thread of its own.
        look: Raises what a quick look at the checkpoint finds. Called before `load`.
        signals: Signals that are caught already; None: they are caught from here on.
        listening: Called with the port of the HTTP server, once it answers.

    Returns:
        The exit code: 0 drained, 1 failed, 2 refused. If the model is still being loaded the
        process ends here, without finalizing the interpreter: that could wait for the import of
        torch, or crash in it.
    """
    in_time = functools.partial(_in_time, settings.model.load_deadline)
    loading = Loading(in_time(lambda: _loaded(settings, load)), look=in_time(look))
    catching = DrainSignals() if signals is None else contextlib.nullcontext(signals)
    with awake.now.ticking(), catching as caught:
        code = _code(settings, loading, caught, listening)
    if loading.under_way:
        end_at_once(code)
    return code


def _code(
    settings: Settings,
    loading: Loading[_Loaded],
    signals: DrainSignals,
    listening: Callable[[int], None],
) -> int:
    signals.heeded()
    try:
        return _serve(settings, loading, signals, listening)
    except StoppedEarly:
        log.info("stopped_before_start")
        end_at_once(EXIT_DRAINED)  # the start may be under way on its thread
    except Fatal as error:
        log.error(str(error))  # noqa: TRY400 - the line says it all
        if isinstance(error, DeviceLost):
            end_at_once(error.exit_code)
        return error.exit_code
    except Exception:
        log.exception("unexpected_failure")
        return EXIT_FAILED


def _serve(
    settings: Settings,
    loading: Loading[_Loaded],
    signals: DrainSignals,
    listening: Callable[[int], None],
) -> int:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(
        input_topic=settings.input.topic,
        output_topic=settings.output.topic,
        dlq_topic=settings.dlq.topic,
        version=version("emotion-stream"),
        registry=registry,
        buckets=Buckets(
            processing=settings.metrics.processing_bounds, record=settings.metrics.record_bounds
        ),
    )
    deadline = settings.model.deadline
    health = Health(clock=awake.now, patience=max(STUCK, deadline + SETTLING))
    endpoints = Endpoints(
        host=settings.http.host, port=settings.http.port, registry=registry, health=health
    )
    endpoints.start()
    log.info("http_listening", host=settings.http.host, port=endpoints.port)
    listening(endpoints.port)
    loading.start()
    starting = Aside(lambda: _started(settings, loading, metrics, health), name="start")
    starting.start()
    try:
        pipeline, told = starting.result(stopped=lambda: signals.asked)
        log.info("worker_started", **told)
        pipeline.start()
        return _run(pipeline, signals, health, settings, last_scrape=endpoints.last_scrape)
    finally:
        if not (loading.under_way or starting.under_way):
            LAST_RESORT.put_off(0)  # no thread is left that could hang
        endpoints.close()


def _started(
    settings: Settings, loading: Loading[_Loaded], metrics: Metrics, health: Health
) -> tuple[Pipeline, dict[str, Any]]:
    """A pipeline that is ready to start, and what the log says of it.

    Runs aside: it waits for the cluster and for the model.
    """
    laps = Laps()
    loading.looked(LOOK_SECONDS)
    desk = TopicDesk(connection=connection(settings))
    topics = _wait_for_topics(desk, settings, loading)
    laps.lap("topics")
    metrics.broker_reachable(reachable=True)  # from now on 0 is an outage, also while it loads
    loaded = loading.result()
    laps.lap("model")
    classifier = loaded.classifier
    metrics.model_loaded(
        name=classifier.name,
        version=classifier.version,
        labels=classifier.labels,
        device=str(getattr(classifier, "device", "none")),
        dtype=str(getattr(classifier, "dtype", "none")).removeprefix("torch."),
        rows="packed" if classifier.layout.packed else "padded",
        shares=classifier.label_shares,
        abstains=classifier.abstention is not None,
        gpu=classifier.gpu,
    )
    health.model_ready = True
    pipeline = wired(
        Parts(
            settings=settings,
            topics=topics,
            desk=desk,
            classifier=classifier,
            limits=loaded.limits,
            metrics=metrics,
            health=health,
        )
    )
    garbage.rarely()
    return pipeline, {
        "input": topics.input.name,
        "output": topics.output.name,
        "topics_seconds": laps.seconds["topics"],
        "model_seconds": laps.seconds["model"],
        "load_seconds": loaded.laps.seconds["load"],
        "warm_up_seconds": loaded.laps.seconds["warm_up"],
    }


def _loaded(settings: Settings, load: Callable[[], Classifier]) -> _Loaded:
    """Loads the model and warms it up."""
    laps = Laps()
    classifier = load()
    laps.lap("load")
    limits = batching(
        classifier.limits,
        max_records=settings.batch.max_records,
        max_tokens=settings.batch.max_tokens,
        in_flight=settings.batch.in_flight,
    )
    classifier.warm_up(max_records=limits.max_records, max_tokens=limits.max_tokens)
    laps.lap("warm_up")
    return _Loaded(classifier, limits, laps)


def _in_time(deadline: float, step: Callable[[], T]) -> Callable[[], T]:
    """A step of the start; the process ends if it takes longer than `deadline` seconds."""
    problem = (
        f"the model is not loaded and warm after {deadline:g} s: raise model.load_deadline if it "
        "is only large; else the volume of the checkpoint or the device hangs"
    )

    def late() -> None:
        log.error(problem)
        end_at_once(EXIT_FAILED)

    def limited_step() -> T:
        with limited(deadline, late, last_resort=LAST_RESORT.put_off):
            return step()

    return limited_step


def _run(
    pipeline: Pipeline,
    signals: DrainSignals,
    health: Health,
    settings: Settings,
    *,
    last_scrape: Callable[..., None],
) -> int:
    failure = None
    while failure is None and not signals.asked:
        failure = pipeline.failure(timeout=0.2)
    health.draining = True
    if failure is None:
        log.info("drain_started")
        failure = pipeline.drain(hurried=lambda: signals.hurried)
    else:
        pipeline.abort()
    # After a failure there is time to leave the group; after a signal the deadline counts.
    left_behind = not pipeline.join(timeout=pipeline.last_words / 2 if signals.asked else 5.0)
    code = _told(failure, settings)
    lost = isinstance(failure, DeviceLost)
    if lost:
        last_scrape(stopped=lambda: signals.asked)
    if left_behind or lost:  # torn down, a library would wait for the lost GPU
        end_at_once(code)
    return code


def _told(failure: BaseException | None, settings: Settings) -> int:
    """Logs how the worker ended, as its last line; returns the exit code."""
    if failure is None:
        log.info("drained")
        return EXIT_DRAINED
    failure = explained(failure, settings)
    if isinstance(failure, Fatal | Transient):
        log.error(str(failure))
        return failure.exit_code if isinstance(failure, Fatal) else EXIT_FAILED
    log.error("unexpected_failure", exc_info=failure)
    return EXIT_FAILED


def _wait_for_topics(desk: TopicDesk, settings: Settings, loading: Loading[_Loaded]) -> Topics:
    """The topics, as soon as a broker answers.

    Raises:
        Refused: One is missing or cannot serve; or the model was refused meanwhile.
    """
    waiting = Lasting(log, "waiting_for_broker")
    while True:
        loading.failed_early()
        try:
            return checked(desk, settings)
        except Transient as error:
            waiting.still(str(error))
            time.sleep(1.0)
