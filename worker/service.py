"""The worker as a process: start-up in order, signals, exit code.

    signal handlers -> HTTP ─┬─ topics (waits for the cluster)          ─┬─ producer -> group
                             └─ model: import, weights, gates, warm-up  ─┘

A cold replica never holds partitions, and the probes answer from the first second. What is wrong
with the topics is told without waiting for the model, and the other way round.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from worker.batch import Budget
from worker.decode import Decoder
from worker.encode import Encoder
from worker.endpoints import SETTLING, STUCK, Endpoints, Health
from worker.errors import EXIT_DRAINED, EXIT_FAILED, EXIT_REFUSED, Fatal, Refused, Transient
from worker.kafka.cluster import access
from worker.kafka.cluster.clients import Connection
from worker.kafka.cluster.hanging import TransactionWatch
from worker.kafka.cluster.security import Security
from worker.kafka.cluster.topics import TopicDesk, Topics
from worker.kafka.consume.membership import Membership
from worker.kafka.consume.source import Source
from worker.kafka.produce.at_least_once import Sink
from worker.kafka.produce.exactly_once import TransactionalSink, transactional_writer
from worker.kafka.produce.writer import Writer
from worker.laps import Laps
from worker.loading import Loading
from worker.metrics import Metrics
from worker.pipeline import Parts, Pipeline
from worker.signals import DrainSignals, StoppedEarly
from worker.stages.breaker import Breaker, Tolerance
from worker.stages.gate import Gate
from worker.stages.inference import Inference
from worker.stages.intake import Limits
from worker.watchdog import (
    Watchdog,
    end_at_once,
    end_without_the_interpreter,
    limited,
    stand_down,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.produce.writer import Refusal
    from worker.records import Output
    from worker.settings import KafkaSettings, Settings
    from worker.stages.inference import Classifier
    from worker.stages.intake import Intake
    from worker.stages.publish import OutputSink

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 2.0
"""For a first look at the checkpoint, which takes milliseconds, before the cluster is asked, which
takes minutes where it is away. A volume that hangs holds nothing up for longer."""
IN_FLIGHT_BATCHES = 8
"""Micro-batches in flight by default: enough to sort lengths among, little to hand back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """The micro-batch limits in force."""

    max_records: int
    max_tokens: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The model, warm; the limits in force; seconds of loading and of warming up."""

    classifier: Classifier
    limits: Batching
    laps: Laps


def serve(
    settings: Settings,
    *,
    load: Callable[[], Classifier],
    look: Callable[[], None] = lambda: None,
    signals: DrainSignals | None = None,
) -> int:
    """Runs the worker until a signal drains it or it fails.

    Args:
        settings: All settings.
        load: Makes the model; any ``Classifier`` can stand in for one. Called on a thread of its
            own.
        look: Raises what can be found wrong with the model at once. Called before ``load``.
        signals: Those that are caught already; None: they are caught from here on.

    Returns:
        The exit code: 0 drained, 1 failed, 2 refused. If the model is still being loaded the
        process ends here, without the interpreter's own end: that could wait for the import of
        torch, or crash in it.
    """
    in_time = functools.partial(_in_time, settings.model.load_deadline)
    loading = Loading(in_time(lambda: _loaded(settings, load)), look=in_time(look))
    if signals is None:
        with DrainSignals() as caught:
            code = _code(settings, loading, caught)
    else:
        code = _code(settings, loading, signals)
    if loading.under_way:
        end_at_once(code)
    return code


def _code(settings: Settings, loading: Loading[_Loaded], signals: DrainSignals) -> int:
    try:
        return _serve(settings, loading, signals)
    except StoppedEarly:
        log.info("stopped_before_start")
        return EXIT_DRAINED
    except Refused as error:
        log.error(str(error))  # noqa: TRY400 - the line says it all
        return EXIT_REFUSED
    except Fatal as error:
        log.error(str(error))  # noqa: TRY400
        return EXIT_FAILED
    except Exception:
        log.exception("unexpected_failure")
        return EXIT_FAILED


def batching(settings: Settings, classifier: Classifier) -> Batching:
    """The limits in force: what is set, else what suits the model's device."""
    limits = classifier.limits
    max_records = settings.batch.max_records or limits.max_records
    max_tokens = settings.batch.max_tokens or limits.max_tokens
    in_flight = settings.batch.in_flight or IN_FLIGHT_BATCHES * max_records
    return Batching(max_records=max_records, max_tokens=max_tokens, in_flight=in_flight)


def connection(settings: Settings) -> Connection:
    """How this worker's clients reach the cluster."""
    return Connection(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        client_id=_identity(settings),
        metadata_max_age=settings.kafka.metadata_max_age,
        security=_security(settings.kafka),
    )


def checked(desk: TopicDesk, settings: Settings) -> Topics:
    """This worker's topics.

    Raises:
        Refused: One is missing or cannot serve, or a permission is missing.
        Transient: No broker answers.
    """
    return desk.check(
        input_topic=settings.input.topic,
        output_topic=settings.output.topic,
        dlq_topic=settings.dlq.topic,
        group=settings.kafka.group_id,
        transactional_id=_identity(settings) if settings.transactional else None,
    )


def _identity(settings: Settings) -> str:
    """This replica's client id, and transactional id."""
    return f"{settings.kafka.group_id}-{settings.replica}"


def _security(kafka: KafkaSettings) -> Security:
    password, key_password = kafka.sasl_password, kafka.ssl_key_password
    return Security(
        protocol=kafka.security_protocol,
        mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=password.get_secret_value() if password else None,
        token_file=kafka.sasl_token_file,
        ca_file=kafka.ssl_cafile,
        cert_file=kafka.ssl_certfile,
        key_file=kafka.ssl_keyfile,
        key_password=key_password.get_secret_value() if key_password else None,
    )


def _serve(settings: Settings, loading: Loading[_Loaded], signals: DrainSignals) -> int:
    start = Laps()
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(
        input_topic=settings.input.topic,
        output_topic=settings.output.topic,
        dlq_topic=settings.dlq.topic,
        version=version("emotion-stream"),
        registry=registry,
    )
    deadline = settings.model.deadline
    health = Health(clock=time.monotonic, patience=max(STUCK, deadline + SETTLING))
    endpoints = Endpoints(
        host=settings.http.host, port=settings.http.port, registry=registry, health=health
    )
    endpoints.start()
    log.info("http_listening", host=settings.http.host, port=endpoints.port)
    loading.start()
    try:
        loading.looked(LOOK_SECONDS)
        desk = TopicDesk(connection=connection(settings))
        topics = _wait_for_topics(desk, settings, loading)
        start.lap("topics")
        metrics.broker_reachable(reachable=True)  # from here on 0 is news, also while it loads
        loaded = loading.result()
        start.lap("model")
        classifier, limits = loaded.classifier, loaded.limits
        metrics.model_loaded(
            name=classifier.name,
            version=classifier.version,
            labels=classifier.labels,
            device=str(getattr(classifier, "device", "none")),
            dtype=str(getattr(classifier, "dtype", "none")).removeprefix("torch."),
            shares=classifier.label_shares,
        )
        health.model_ready = True
        pipeline = Pipeline(
            _parts(
                settings=settings,
                topics=topics,
                desk=desk,
                classifier=classifier,
                limits=limits,
                metrics=metrics,
                health=health,
            )
        )
        signals.started()
        log.info(
            "worker_started",
            input=topics.input.name,
            output=topics.output.name,
            topics_seconds=start.seconds["topics"],
            model_seconds=start.seconds["model"],
            load_seconds=loaded.laps.seconds["load"],
            warm_up_seconds=loaded.laps.seconds["warm_up"],
        )
        pipeline.start()
        return _run(pipeline, signals, health, settings)
    finally:
        stand_down()
        endpoints.close()


def _loaded(settings: Settings, load: Callable[[], Classifier]) -> _Loaded:
    """The model, warm, and the limits in force."""
    laps = Laps()
    classifier = load()
    laps.lap("load")
    limits = batching(settings, classifier)
    classifier.warm_up(max_records=limits.max_records, max_tokens=limits.max_tokens)
    laps.lap("warm_up")
    return _Loaded(classifier, limits, laps)


def _in_time(deadline: float, step: Callable[[], T]) -> Callable[[], T]:
    """The step of a start; the process ends if it takes longer than that, in seconds."""
    problem = (
        f"the model is not loaded and warm after {deadline:g} s: raise model.load_deadline if it "
        "is only large; else the volume of the checkpoint or the device hangs"
    )

    def late() -> None:
        log.error(problem)
        end_at_once(EXIT_FAILED)

    def limited_step() -> T:
        with limited(deadline, late, last_resort=end_without_the_interpreter):
            return step()

    return limited_step


def _run(pipeline: Pipeline, signals: DrainSignals, health: Health, settings: Settings) -> int:
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
    if left_behind:
        end_at_once(code)
    return code


def _told(failure: BaseException | None, settings: Settings) -> int:
    """The exit code, after the last line of the log."""
    if failure is None:
        log.info("drained")
        return EXIT_DRAINED
    failure = _explained(failure, settings)
    if isinstance(failure, Fatal | Transient):
        log.error(str(failure))
        return EXIT_REFUSED if isinstance(failure, Refused) else EXIT_FAILED
    log.error("unexpected_failure", exc_info=failure)
    return EXIT_FAILED


def _explained(failure: BaseException, settings: Settings) -> BaseException:
    """The failure; or, where a broker forbids something, the line that says what is missing."""
    if not access.forbidden(failure):
        return failure
    link = connection(settings)
    desk = TopicDesk(connection=link)
    try:
        checked(desk, settings)
    except Refused as refused:
        return refused
    except Transient:
        pass
    finally:
        desk.close()
    if access.may_not_write_transactions(failure):
        lacking = f"Write on transactional id {_identity(settings)}"
        return Refused(access.advice([lacking], link.security.who))
    return failure


def _wait_for_topics(desk: TopicDesk, settings: Settings, loading: Loading[_Loaded]) -> Topics:
    """The topics, as soon as a broker answers.

    Raises:
        Refused: One is missing or cannot serve; or the model was refused meanwhile.
    """
    while True:
        loading.failed_early()
        try:
            return checked(desk, settings)
        except Transient as error:
            log.warning("waiting_for_broker", error=str(error))
            time.sleep(1.0)


def _parts(
    *,
    settings: Settings,
    topics: Topics,
    desk: TopicDesk,
    classifier: Classifier,
    limits: Batching,
    metrics: Metrics,
    health: Health,
) -> Parts:
    link = connection(settings)
    kafka = settings.kafka
    membership = Membership()
    written = {topic.name: topic for topic in (topics.output, topics.dlq)}
    watchdog = Watchdog(
        model_deadline=settings.model.deadline, last_resort=end_without_the_interpreter
    )

    gate = Gate(
        breaker=Breaker(Tolerance(**settings.breaker.model_dump())), metrics=metrics, health=health
    )

    transactions = TransactionWatch(
        desk=desk, after=kafka.hanging_after, on_change=metrics.hanging_transactions
    )

    def watch(intake: Intake) -> None:
        found = desk.verify(topics)
        every = (found.input, found.output, found.dlq)
        metrics.topic_partitions(found.input.partitions)
        intake.ends(desk.end_offsets(found.input.name, found.input.partitions))
        transactions.look({topic.name: topic.partitions for topic in every})
        metrics.device_memory(classifier.memory())

    def make_sink(
        replace: Callable[[Output, Refusal], Output], stopping: Callable[[], bool], intake: Intake
    ) -> OutputSink:
        if settings.transactional:
            return TransactionalSink(
                writer=transactional_writer(
                    connection=link,
                    topics=written,
                    compression=kafka.compression,
                    outage_limit=kafka.outage_limit,
                    stopping=stopping,
                    transactional_id=_identity(settings),
                ),
                membership=membership,
                input_topic=topics.input.name,
                replica_id=settings.replica,
                interval=settings.delivery.transaction_interval,
                span_records=max(1, limits.in_flight // 2),
                replace=replace,
                rewind=intake.ask_rewind,
                on_commit=intake.commit_ended,
                on_error=metrics.send_failed,
            )
        return Sink(
            writer=Writer(
                connection=link,
                topics=written,
                compression=kafka.compression,
                delivery_timeout=kafka.delivery_timeout,
                outage_limit=kafka.outage_limit,
                stopping=stopping,
            ),
            replace=replace,
            on_error=metrics.send_failed,
        )

    return Parts(
        decoder=Decoder(
            format=settings.input.format,
            text_field=settings.input.text_field,
            id_field=settings.input.id_field,
            max_bytes=settings.input.max_bytes,
        ),
        classifier=classifier,
        inference=Inference(
            classifier=classifier, on_error=metrics.inference_failed, guard=watchdog.model
        ),
        encoder=Encoder(
            output_topic=topics.output.name,
            dlq_topic=topics.dlq.name,
            output_partitions=topics.output.partitions,
            labels=classifier.labels,
            model_name=classifier.name,
            model_version=classifier.version,
        ),
        budget=Budget(
            max_records=limits.max_records,
            max_tokens=limits.max_tokens,
            max_wait=settings.batch.max_wait,
        ),
        limits=Limits(
            records=limits.in_flight,
            bytes=settings.batch.in_flight_bytes,
            commit_interval=kafka.commit_interval,
        ),
        drain_deadline=settings.drain.deadline,
        outage_limit=kafka.outage_limit,
        metrics=metrics,
        health=health,
        watchdog=watchdog,
        gate=gate,
        transactional=settings.transactional,
        make_sink=make_sink,
        make_source=lambda intake: Source(
            connection=link,
            topic=topics.input.name,
            group_id=kafka.group_id,
            instance_id=settings.replica if settings.static_member else None,
            assignment=kafka.assignment,
            membership=membership,
            transactional=settings.transactional,
            session_timeout=kafka.session_timeout,
            heartbeat_interval=kafka.heartbeat_interval,
            max_poll_interval=kafka.max_poll_interval,
            fetch_max_bytes=kafka.fetch_max_bytes,
            settled=intake.settled,
            on_commit=intake.commit_ended,
            on_expired=metrics.records_expired,
        ),
        watch=watch,
    )
