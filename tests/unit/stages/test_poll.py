"""The poll thread: when it joins the group, what a drain does, and when it leaves."""

import threading
import time
from queue import SimpleQueue

import pytest

from tests.support.kafka_helpers import wait_until
from worker.endpoints import Health
from worker.errors import Fatal, Transient
from worker.messages import Drain, Drained, Writable
from worker.stages.accounts import Accounts, Limits
from worker.stages.intake import Reports
from worker.stages.poll import PollStage
from worker.stages.shutdown import Shutdown
from worker.watchdog import Watchdog


class Lag:
    """Nothing is measured here."""


class Intake:
    """Notes its turns, and does what a test asks for in one of them."""

    def __init__(self, inbox, in_turn):
        accounts = Accounts(limits=Limits(records=1, bytes=1))
        self.reports = Reports(inbox=inbox, accounts=accounts, lag=Lag())
        self.in_turn, self.turns, self.last_commits = in_turn, [], []
        self.behind, self.handed_back = False, []

    def take_moved(self):
        return True

    def turn(self, source, *, reading):
        self.reports.take()
        self.turns.append(reading)
        self.in_turn(len(self.turns))

    def hand_back(self):
        self.handed_back.append(self.behind)
        self.behind = False

    def commit_last(self, source, *, timeout):
        self.last_commits.append(timeout)


class Source:
    closed = None

    def close(self, *, timeout, leave):
        self.closed = leave


class Desk:
    def __init__(self, in_turn=lambda _: None, make_source=None, clock=time.monotonic):
        self.inbox, self.sent, self.source = SimpleQueue(), [], Source()
        self.shutdown = Shutdown(deadline=100.0, clock=clock)
        self.intake = Intake(self.inbox, in_turn)
        self.health = Health(clock=lambda: 0.0)
        self.stage = PollStage(
            intake=self.intake, make_source=make_source or (lambda: self.source),
            assemble=self.sent.append, shutdown=self.shutdown, health=self.health,
            watchdog=Watchdog(model_deadline=60.0),
        )  # fmt: skip


def test_a_drain_is_waited_for_then_committed_and_the_group_left():
    def turn(number):
        if number == 2:
            desk.shutdown.drain()
        if number == 4:
            desk.inbox.put(Drained())

    desk = Desk(turn)
    desk.inbox.put(Writable())
    desk.stage.run()
    assert desk.intake.turns == [True, True, False, False, False]
    (drain,) = desk.sent
    assert drain == Drain(desk.shutdown.hand_back_at)
    assert len(desk.intake.last_commits) == 1
    assert desk.source.closed is True, "it leaves at once"


def test_a_drain_waits_for_the_records_that_are_not_decoded_yet():
    """The assemble thread is done once it has the drain: a text that came later would be lost."""

    def turn(number):
        if number == 1:
            desk.intake.behind = True
            desk.shutdown.drain()
        if number == 3:
            assert desk.sent == []
            desk.intake.behind = False
        if number == 4:
            desk.inbox.put(Drained())

    desk = Desk(turn)
    desk.inbox.put(Writable())
    desk.stage.run()
    assert desk.intake.turns == [True, False, False, False, False]
    assert desk.sent == [Drain(desk.shutdown.hand_back_at)]
    assert desk.intake.handed_back == [False], "nothing was left"


def test_a_drain_hands_back_what_it_has_no_time_to_decode():
    now = [0.0]

    def turn(number):
        now[0] += 20.0
        if number == 1:
            desk.intake.behind = True
            desk.shutdown.drain()
        if number == 6:
            desk.inbox.put(Drained())

    desk = Desk(turn, clock=lambda: now[0])
    desk.inbox.put(Writable())
    desk.stage.run()
    assert desk.intake.handed_back == [True]
    assert desk.sent == [Drain(80.0)]
    assert len(desk.intake.last_commits) == 1


def test_an_abort_commits_nothing_and_keeps_the_partitions_for_a_restart():
    desk = Desk(lambda number: desk.shutdown.abort() if number == 2 else None)
    desk.inbox.put(Writable())
    desk.stage.run()
    assert desk.intake.last_commits == []
    assert desk.source.closed is False


def test_a_turn_that_fails_closes_the_consumer_and_is_the_failure():
    def fails(number):
        raise Fatal("the topic is gone")

    desk = Desk(fails)
    desk.inbox.put(Writable())
    with pytest.raises(Fatal, match="the topic is gone"):
        desk.stage.run()
    assert desk.source.closed is False


def test_the_group_is_not_joined_before_outputs_can_be_written():
    joined = threading.Event()

    def make_source():
        joined.set()
        return desk.source

    desk = Desk(make_source=make_source)
    thread = threading.Thread(target=desk.stage.run)
    thread.start()
    wait_until(lambda: desk.health.loop_turned is not None, 10, "the loop turns")
    assert not joined.is_set()
    desk.inbox.put(Writable())
    assert joined.wait(10)
    desk.shutdown.abort()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("writable", [False, True])
def test_stopped_before_there_is_a_consumer_it_lets_the_stages_behind_it_end(writable):
    def no_answer():
        desk.shutdown.drain()
        raise Transient("no broker answers")

    desk = Desk(make_source=no_answer)
    if writable:
        desk.inbox.put(Writable())
    else:
        desk.shutdown.drain()
    desk.stage.run()
    assert [type(message) for message in desk.sent] == [Drain]
    assert desk.intake.turns == []
