"""`emotion-worker redrive`, read from top to bottom."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from worker import awake, logs
from worker.aside import Aside
from worker.connect import connection
from worker.errors import (
    EXIT_DRAINED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Fatal,
    Refused,
    Transient,
)
from worker.kafka.cluster.features import Use
from worker.kafka.cluster.topics import TopicDesk
from worker.kafka.produce.transaction import TRANSACTION_TIMEOUT
from worker.log_lines import say
from worker.redrive.decisions import Chooser, Tally
from worker.redrive.job import Redrive, Task
from worker.redrive.progress import Show
from worker.redrive.stop import Stop
from worker.signals import StoppedEarly
from worker.watchdog import end_at_once

if TYPE_CHECKING:
    from worker.redrive.decisions import Move
    from worker.redrive.options import RedriveSettings


def redrive(chosen: RedriveSettings) -> int:
    """Puts dead letters back.

    Returns:
        The exit code: 0 done, 1 failed, 130 interrupted.

    Raises:
        Refused: Topics are unusable.
    """
    logs.configure(format=chosen.log.format, level="error")
    try:
        with Stop() as stop, awake.now.ticking(), ExitStack() as closing:
            return _redrive(chosen, stop, closing)
    except Refused:
        raise
    except (Fatal, Transient) as error:
        _tell(str(error))
        return EXIT_FAILED


def _redrive(chosen: RedriveSettings, stop: Stop, closing: ExitStack) -> int:
    tally = Tally()
    show = Show(tally=tally, dry_run=chosen.dry_run)

    def opened() -> Redrive:
        job = _prepared(chosen, tally, show, stop, closing)
        job.open(preview=chosen.dry_run)
        return job

    opening = Aside(opened, name="open")
    opening.start()
    try:
        job = opening.result(stopped=lambda: stop.asked)
    except StoppedEarly:
        _tell("interrupted before anything was put back")
        end_at_once(EXIT_INTERRUPTED)  # the thread may be using what would be closed
    failure = None
    with show:
        show.begins(job.left)
        try:
            if chosen.dry_run:
                job.preview()
            else:
                job.run()
        except (Fatal, Transient) as error:
            failure = error
    show.summary(input_topic=chosen.input.topic, dlq_topic=chosen.dlq.topic)
    if failure is not None and not (stop.asked and isinstance(failure, Transient)):
        raise failure
    if stop.asked and (failure is not None or not job.done):
        # Where the broker is away, the last transaction's outcome may be known only later.
        unsure = "; whether the last transaction counts is not known" if failure else ""
        _tell(
            "interrupted: what is counted above is only what was read so far; nothing was written"
            if chosen.dry_run
            else f"interrupted: what is counted above is done{unsure}; run it again to go on"
        )
        return EXIT_INTERRUPTED
    if chosen.dry_run:
        show.line("a dry run: nothing was written, nothing was committed")
    elif job.limit_reached:
        show.line(f"--max {chosen.max} is reached: run it again to go on")
    return EXIT_DRAINED


def _prepared(
    chosen: RedriveSettings, tally: Tally, show: Show, stop: Stop, closing: ExitStack
) -> Redrive:
    link = connection(chosen)
    link = replace(link, client_id=chosen.group_id)
    desk = TopicDesk(connection=link)
    closing.callback(desk.close)
    input_topic, dlq_topic = desk.check_redrive(
        input_topic=chosen.input.topic,
        dlq_topic=chosen.dlq.topic,
        group=chosen.group_id,
        preview=chosen.dry_run,
        use=Use()
        if chosen.dry_run
        else Use(
            transactions="redrive",
            instead="only a dry run is possible",
            compression=chosen.kafka.compression,
            transaction_timeout=TRANSACTION_TIMEOUT,
        ),
    )

    def moved(moves: list[Move]) -> None:
        tally.add(moves)
        show.at(job.left)

    task = Task(
        input_topic=input_topic,
        dlq_topic=dlq_topic,
        group_id=chosen.group_id,
        chooser=Chooser(
            input_topic=input_topic.name, partitions=input_topic.partitions, chosen=chosen.chosen
        ),
        limit=chosen.max,
        from_oldest=chosen.from_oldest,
        compression=chosen.kafka.compression,
        fetch_max_bytes=chosen.kafka.fetch_max_bytes,
        outage_limit=chosen.kafka.outage_limit,
    )
    job = Redrive(
        connection=link,
        desk=desk,
        task=task,
        stopping=lambda: stop.asked,
        on_moved=moved,
        on_trouble=show.trouble,
    )
    closing.callback(job.close)
    return job


def _tell(line: str) -> None:
    say(f"emotion-worker: {line}")
