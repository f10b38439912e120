"""Settings to parts: which object gets which other, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.connect import connection, identity, start
from worker.decode import Decoder
from worker.encode import Encoder
from worker.kafka.cluster.hanging import TransactionWatch
from worker.kafka.cluster.monitor import ClusterMonitor
from worker.kafka.consume.group import Group, replaced
from worker.kafka.consume.membership import Membership
from worker.kafka.consume.source import Source
from worker.kafka.produce.at_least_once import Sink
from worker.kafka.produce.exactly_once import Callbacks, SpanLimits, TransactionalSink
from worker.kafka.produce.outage import Outage
from worker.kafka.produce.span import Spans
from worker.kafka.produce.span_size import SPAN_BYTES
from worker.kafka.produce.transaction import transactional_writer
from worker.kafka.produce.writer import Writer
from worker.last_resort import LAST_RESORT
from worker.messages import Rewind
from worker.pipeline import Pipeline
from worker.stages.accounts import Accounts, Limits
from worker.stages.assemble import Assembler, AssembleStage
from worker.stages.breaker import Breaker, Tolerance
from worker.stages.classify import ClassifyStage
from worker.stages.commit import ConsumerCommits, TransactionCommits
from worker.stages.device import device_stage
from worker.stages.dispatch import Dispatch
from worker.stages.gate import Gate
from worker.stages.inbox import Inboxes
from worker.stages.inference import Inference
from worker.stages.inflow import Inflow
from worker.stages.intake import Intake, Reports
from worker.stages.lag import Lag
from worker.stages.poll import PollStage
from worker.stages.publish import Publisher, PublishStage
from worker.stages.shutdown import Shutdown
from worker.stages.watch import WatchStage
from worker.waiting import Budget
from worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.classifier import Batching, Classifier
    from worker.endpoints import Health
    from worker.errors import Refusal
    from worker.kafka.cluster.topics import TopicDesk, Topics
    from worker.metrics import Metrics
    from worker.records import Output
    from worker.settings import Settings
    from worker.stages.commit import Committer
    from worker.stages.publish import OutputSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a pipeline is made from."""

    settings: Settings
    topics: Topics
    desk: TopicDesk
    classifier: Classifier
    limits: Batching
    metrics: Metrics
    health: Health


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What several threads may touch at any time."""

    inboxes: Inboxes
    shutdown: Shutdown
    watchdog: Watchdog
    gate: Gate
    membership: Membership


def wired(parts: Parts) -> Pipeline:
    """The pipeline, not yet started. Clients are made by the threads that own them."""
    settings, inboxes = parts.settings, Inboxes()
    breaker = Breaker(Tolerance(**settings.breaker.model_dump()))
    shared = _Shared(
        inboxes=inboxes,
        shutdown=Shutdown(deadline=settings.drain.deadline),
        watchdog=Watchdog(model_deadline=settings.model.deadline, last_resort=LAST_RESORT.put_off),
        gate=Gate(breaker=breaker, metrics=parts.metrics, health=parts.health),
        membership=Membership(),
    )
    return Pipeline(
        stages={
            "poll": _poll(parts, shared),
            "assemble": _assemble(parts, shared),
            "classify": _classify(parts, shared),
            "publish": _publish(parts, shared),
        },
        watch=_watch(parts, shared),
        device=device_stage(parts.classifier.gpu, shutdown=shared.shutdown, metrics=parts.metrics),
        abort=(inboxes.assemble.put, inboxes.classify.put, inboxes.publish.put),
        shutdown=shared.shutdown,
        watchdog=shared.watchdog,
    )


def _poll(parts: Parts, shared: _Shared) -> PollStage:
    settings, metrics, kafka = parts.settings, parts.metrics, parts.settings.kafka
    inboxes = shared.inboxes
    room = Limits(records=parts.limits.in_flight, bytes=settings.batch.in_flight_bytes)
    accounts = Accounts(limits=room)
    lag = Lag(accounts=accounts, metrics=metrics)
    committer: Committer
    if settings.transactional:
        committer = TransactionCommits(accounts=accounts, publish=inboxes.publish.put)
        on_commit = metrics.committed
    else:
        committer = commits = ConsumerCommits(accounts=accounts, metrics=metrics)
        on_commit = commits.ended
    intake = Intake(
        reports=Reports(inbox=inboxes.poll, accounts=accounts, lag=lag),
        accounts=accounts,
        inflow=Inflow(accounts=accounts, gate=shared.gate, metrics=metrics),
        dispatch=Dispatch(
            decoder=Decoder(
                format=settings.input.format,
                text_field=settings.input.text_field,
                id_field=settings.input.id_field,
                max_bytes=settings.input.max_bytes,
            ),
            assemble=inboxes.assemble.put,
            publish=inboxes.publish.put,
            metrics=metrics,
        ),
        committer=committer,
        commit_interval=kafka.commit_interval,
        lag=lag,
        metrics=metrics,
    )
    group = Group(
        topic=parts.topics.input.name,
        group_id=kafka.group_id,
        instance_id=settings.replica if settings.static_member else None,
        assignment=kafka.assignment,
        session_timeout=kafka.session_timeout,
        heartbeat_interval=kafka.heartbeat_interval,
        max_poll_interval=kafka.max_poll_interval,
        fetch_max_bytes=kafka.fetch_max_bytes,
        start=start(settings, parts.topics),
        rack=kafka.client_rack,
    )
    return PollStage(
        intake=intake,
        make_source=lambda: Source(
            connection=connection(settings),
            group=group,
            membership=shared.membership,
            before_revocation=intake.before_revocation,
            on_commit=on_commit,
            on_expired=metrics.records_expired,
        ),
        assemble=inboxes.assemble.put,
        shutdown=shared.shutdown,
        health=parts.health,
        watchdog=shared.watchdog,
    )


def _assemble(parts: Parts, shared: _Shared) -> AssembleStage:
    limits, layout = parts.limits, parts.classifier.layout
    wait = parts.settings.batch.max_wait
    return AssembleStage(
        inbox=shared.inboxes.assemble,
        assembler=Assembler(
            classifier=parts.classifier,
            budget=Budget(limits.max_records, limits.max_tokens, max_wait=wait, layout=layout),
            metrics=parts.metrics,
            publish=shared.inboxes.publish.put,
        ),
        classify=shared.inboxes.classify.put,
    )


def _classify(parts: Parts, shared: _Shared) -> ClassifyStage:
    return ClassifyStage(
        inbox=shared.inboxes.classify,
        inference=Inference(
            classifier=parts.classifier,
            on_error=parts.metrics.inference_failed,
            guard=shared.watchdog.model,
        ),
        depth=parts.classifier.depth,
        assemble=shared.inboxes.assemble.put,
        publish=shared.inboxes.publish.put,
        shutdown=shared.shutdown,
        metrics=parts.metrics,
    )


def _publish(parts: Parts, shared: _Shared) -> PublishStage:
    topics, classifier, inboxes = parts.topics, parts.classifier, shared.inboxes
    publisher = Publisher(
        encoder=Encoder(
            output_topic=topics.output.name,
            dlq_topic=topics.dlq.name,
            output_partitions=topics.output.partitions,
            by_key=parts.settings.output.partition == "key",
            labels=classifier.labels,
            model_name=classifier.name,
            model_version=classifier.version,
        ),
        metrics=parts.metrics,
        report=inboxes.poll.put,
        judged=shared.gate.report,
    )

    def make_sink() -> OutputSink:
        outage = Outage(
            limit=parts.settings.kafka.outage_limit,
            stopping=shared.shutdown.aborting,
            tell=parts.health.outputs_wait,
        )
        if parts.settings.transactional:
            return _transactional_sink(parts, shared, outage, publisher.replace)
        writer = Writer(
            connection=connection(parts.settings),
            topics={topic.name: topic for topic in (topics.output, topics.dlq)},
            compression=parts.settings.kafka.compression,
            delivery_timeout=parts.settings.kafka.delivery_timeout,
            outage=outage,
        )
        return Sink(writer=writer, replace=publisher.replace, on_error=parts.metrics.send_failed)

    return PublishStage(
        inbox=inboxes.publish,
        publisher=publisher,
        make_sink=make_sink,
        poll=inboxes.poll.put,
        shutdown=shared.shutdown,
        metrics=parts.metrics,
    )


def _transactional_sink(
    parts: Parts, shared: _Shared, outage: Outage, replace: Callable[[Output, Refusal], Output]
) -> TransactionalSink:
    settings, topics, link = parts.settings, parts.topics, connection(parts.settings)
    writer = transactional_writer(
        connection=link,
        topics={topic.name: topic for topic in (topics.output, topics.dlq)},
        compression=settings.kafka.compression,
        outage=outage,
        transactional_id=identity(settings),
        replaced=lambda: replaced(
            link, shared.membership, group=settings.kafka.group_id, name=settings.replica
        ),
    )
    return TransactionalSink(
        writer=writer,
        spans=Spans(writer=writer, topic=topics.input.name),
        standing=shared.membership,
        replica_id=settings.replica,
        limits=SpanLimits(
            seconds=settings.delivery.transaction_interval,
            records=max(1, parts.limits.in_flight // 2),
            bytes=SPAN_BYTES,
        ),
        replace=replace,
        callbacks=Callbacks(
            rewind=lambda: shared.inboxes.poll.put(Rewind()),
            on_commit=parts.metrics.committed,
            on_error=parts.metrics.send_failed,
        ),
    )


def _watch(parts: Parts, shared: _Shared) -> WatchStage:
    kafka, metrics = parts.settings.kafka, parts.metrics
    return WatchStage(
        cluster=ClusterMonitor(
            desk=parts.desk,
            topics=parts.topics,
            transactions=TransactionWatch(
                desk=parts.desk, after=kafka.hanging_after, on_change=metrics.hanging_transactions
            ),
            on_partitions=metrics.topic_partitions,
        ),
        device_memory=parts.classifier.memory,
        poll=shared.inboxes.poll.put,
        outage_limit=kafka.outage_limit,
        shutdown=shared.shutdown,
        metrics=metrics,
        health=parts.health,
    )
