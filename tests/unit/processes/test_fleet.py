"""Which children run, when one is started again, how it ends: without processes or time."""

import pytest
from structlog.testing import capture_logs

from worker.errors import EXIT_DRAINED, EXIT_FAILED, EXIT_REFUSED
from worker.processes.fleet import DEAF, MARGIN, STUCK, UNHEARD, Fleet
from worker.processes.restarts import (
    FIRST_PAUSE,
    HOPELESS,
    LONGEST_PAUSE,
    SETTLED,
    Restarts,
)

KILLED = -9
DEADLINE = 25.0


class Child:
    """A child without a process: a test says what becomes of it."""

    def __init__(self, number, now):
        self.number, self.started, self.heard = number, now, None
        self.waited = []
        self.port, self.problem, self.error = None, "it is starting", None
        self.code = None
        self.asked = []

    def ready(self, now):
        self.port, self.problem, self.heard = 1_234, None, now

    def ended(self):
        return self.code

    def drain(self):
        self.asked.append("drain")

    def hurry(self):
        self.asked.append("hurry")

    def kill(self):
        self.asked.append("kill")
        self.code = KILLED

    def wait(self, seconds):
        self.waited.append(seconds)


class Scene:
    def __init__(self, count=2):
        self.now = 1_000.0
        self.spawned = []
        self.restarted = []
        self.asked = self.hurried = self.full = False
        self.fleet = Fleet(
            count=count, spawn=self._spawn, clock=lambda: self.now, drain_deadline=DEADLINE,
            restarted=self.restarted.append,
        )  # fmt: skip
        self.logs = []

    def _spawn(self, number):
        if self.full and number == 1:
            raise OSError("no memory")
        self.spawned.append(Child(number, self.now))
        return self.spawned[-1]

    def turn(self, seconds=0.1):
        self.now += seconds
        with capture_logs() as lines:
            code = self.fleet.turn(asked=self.asked, hurried=self.hurried)
        self.logs += lines
        return code

    def started(self):
        """All children run and are ready."""
        self.turn()
        for child in self.spawned:
            child.ready(self.now)
        self.turn()
        return self

    @property
    def last(self):
        return self.logs[-1]["event"]


def test_each_child_is_started_once():
    scene = Scene(3)
    for _ in range(3):
        assert scene.turn() is None
    assert [child.number for child in scene.spawned] == [1, 2, 3]


@pytest.mark.parametrize("code", [0, 1, 14, KILLED, -35])
def test_a_child_that_ends_is_started_again_after_a_pause_and_the_other_goes_on(code):
    scene = Scene().started()
    scene.spawned[0].code = code
    assert scene.turn() is None
    assert scene.restarted == [1]
    assert scene.turn(FIRST_PAUSE - 0.2) is None
    assert len(scene.spawned) == 2
    scene.turn(0.3)
    assert [child.number for child in scene.spawned] == [1, 2, 1]
    assert scene.spawned[1].asked == []


def test_one_that_cannot_be_started_is_tried_again_and_the_other_goes_on():
    scene = Scene()
    scene.full = True
    assert scene.turn() is None
    assert [child.number for child in scene.spawned] == [2]
    line = next(line for line in scene.logs if line["event"] == "process_ended")
    assert line["error"] == "it cannot be started: no memory"
    scene.full = False
    scene.turn(FIRST_PAUSE + 0.1)
    assert [child.number for child in scene.spawned] == [2, 1]


def test_a_child_that_logged_why_is_quoted_and_one_that_was_killed_is_not():
    scene = Scene().started()
    for child, code in zip(scene.spawned, (1, KILLED), strict=True):
        child.code, child.error = code, "the broker was away, an hour ago"
    scene.turn()
    lines = [line for line in scene.logs if line["event"] == "process_ended"]
    assert [(line["process"], line["exit"], line["error"]) for line in lines] == [
        (1, "1", "the broker was away, an hour ago"),
        (2, "SIGKILL", None),
    ]


def test_pauses_grow_to_a_minute():
    restarts, now = Restarts(), 0.0
    pauses = [restarts.ended(now) for _ in range(9)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize(("ready_for", "short"), [(SETTLED - 1, False), (SETTLED, True)])
def test_the_pause_is_short_again_after_a_child_was_ready_for_a_while(ready_for, short):
    restarts = Restarts()
    for _ in range(3):
        restarts.ended(0.0)
    for second in (10.0, 10.0 + ready_for):
        restarts.ready(second)
    assert (restarts.ended(10.0 + ready_for) == FIRST_PAUSE) is short


def test_one_that_gets_ready_and_fails_is_never_hopeless():
    restarts = Restarts()
    for now in range(10 * HOPELESS):
        restarts.ready(float(now))
        restarts.ended(now + 0.5)
    assert not restarts.hopeless


def test_only_ends_in_a_row_are_hopeless():
    restarts = Restarts()
    for _ in range(HOPELESS - 1):
        restarts.ended(0.0)
    restarts.ready(1.0)
    restarts.ended(2.0)
    for _ in range(HOPELESS - 1):
        restarts.ended(3.0)
    assert not restarts.hopeless
    restarts.ended(4.0)
    assert restarts.hopeless


def test_when_none_ever_gets_ready_it_ends_with_1_and_the_reason():
    scene = Scene()
    for _ in range(2_000):
        code = scene.turn(1.0)
        if code is not None:
            break
        for child in scene.spawned:
            child.code, child.error = 1, "the device is lost"
    assert code == EXIT_FAILED
    assert len(scene.spawned) == 2 * HOPELESS
    assert scene.last == "no process becomes ready; the last one: the device is lost"


def test_while_one_is_ready_the_other_may_fail_for_ever():
    scene = Scene().started()
    for _ in range(1_000):
        assert scene.turn(1.0) is None
        scene.spawned[1].heard = scene.now
        for child in scene.spawned[:1] + scene.spawned[2:]:
            child.code = 1
    assert len(scene.spawned) > 2 * HOPELESS


def test_a_refusal_before_any_was_ready_drains_the_others_and_ends_with_2_and_its_reason():
    scene = Scene(3)
    scene.turn()
    scene.spawned[1].code, scene.spawned[1].error = EXIT_REFUSED, "topic x does not exist"
    assert scene.turn() is None
    assert scene.spawned[0].asked == scene.spawned[2].asked == ["drain"]
    scene.spawned[0].code = scene.spawned[2].code = 0
    assert scene.turn() == EXIT_REFUSED
    assert scene.last == "process 2 was refused: topic x does not exist"
    assert len(scene.spawned) == 3


def test_a_refusal_beside_one_that_works_is_an_end_like_others():
    """The memory of the device may be the other's for a moment."""
    scene = Scene().started()
    scene.spawned[1].code, scene.spawned[1].error = EXIT_REFUSED, "no memory"
    assert scene.turn() is None
    assert scene.spawned[0].asked == []
    scene.spawned[0].heard = scene.now
    scene.turn(FIRST_PAUSE + 0.1)
    assert [child.number for child in scene.spawned] == [1, 2, 2]


@pytest.mark.parametrize(("codes", "ends"), [({2}, EXIT_REFUSED), ({1, 2}, EXIT_FAILED)])
def test_all_that_worked_and_cannot_start_any_more_end_it_by_their_last_ends(codes, ends):
    scene = Scene().started()
    for _ in range(2_000):
        code = scene.turn(1.0)
        if code is not None:
            break
        for child in scene.spawned:
            child.code = min(codes) if child.number == 1 else max(codes)
    assert code == ends


def test_children_that_take_long_to_fail_end_it_although_they_never_fail_together():
    scene = Scene()
    end = scene.now + 2 * HOPELESS * 700
    while scene.now < end:
        code = scene.turn(1.0)
        if code is not None:
            break
        for child in scene.spawned:
            child.heard, child.port = scene.now, 1
            late = 300 if child.number == 2 and child is scene.spawned[1] else 0
            if scene.now - child.started > 600 + late:
                child.code = 1
    assert code == EXIT_FAILED


def test_one_that_needs_long_until_it_answers_is_not_killed_when_it_does():
    scene = Scene(1)
    scene.turn()
    for _ in range(int(UNHEARD) - 20):
        scene.turn(1.0)
    (child,) = scene.spawned
    child.port = 1_234
    scene.turn(1.0)
    assert child.asked == []
    child.heard = scene.now
    scene.turn(DEAF - 1)
    assert child.asked == []


def test_one_whose_probes_have_stopped_while_it_was_ready_is_killed():
    scene = Scene().started()
    deaf, other = scene.spawned
    other.heard = scene.now + DEAF
    scene.turn(DEAF + 1)
    assert (deaf.asked, other.asked) == (["kill"], [])


@pytest.mark.parametrize(("port", "ends"), [(None, EXIT_DRAINED), (1_234, EXIT_FAILED)])
def test_one_that_a_signal_to_all_ends_before_it_catches_any_has_drained(port, ends):
    scene = Scene(1)
    scene.turn()
    scene.asked = True
    scene.turn()
    scene.spawned[0].code, scene.spawned[0].port = -15, port
    assert scene.turn() == ends


def test_all_are_killed_before_any_is_waited_for():
    scene = Scene(3).started()
    scene.fleet.kill()
    assert [child.asked for child in scene.spawned] == [["kill"]] * 3
    assert [len(child.waited) for child in scene.spawned] == [1] * 3


def test_a_signal_drains_all_at_once_and_ends_with_0():
    scene = Scene().started()
    scene.asked = True
    assert scene.turn() is None
    assert [child.asked for child in scene.spawned] == [["drain"], ["drain"]]
    assert scene.fleet.ready() == "the worker is draining"
    scene.spawned[0].code = 0
    assert scene.turn() is None
    scene.spawned[1].code = 0
    assert scene.turn() == EXIT_DRAINED
    assert scene.last == "drained"
    assert scene.restarted == []


@pytest.mark.parametrize("code", [1, 2, KILLED])
def test_a_drain_that_fails_in_one_child_ends_with_1(code):
    scene = Scene().started()
    scene.asked = True
    scene.turn()
    scene.spawned[0].code, scene.spawned[1].code = code, 0
    assert scene.turn() == EXIT_FAILED


def test_a_child_that_waits_to_be_started_again_is_not_started_for_a_drain():
    scene = Scene().started()
    scene.spawned[0].code = KILLED
    scene.turn()
    scene.asked = True
    scene.turn(FIRST_PAUSE + 1)
    scene.spawned[1].code = 0
    assert scene.turn() == EXIT_DRAINED
    assert len(scene.spawned) == 2


def test_one_that_drains_for_too_long_is_killed():
    scene = Scene().started()
    scene.asked = True
    scene.turn()
    scene.spawned[0].code = 0
    assert scene.turn(DEADLINE + MARGIN - 0.5) is None
    assert scene.spawned[1].asked == ["drain"]
    assert scene.turn(1.0) == EXIT_FAILED
    assert scene.spawned[1].asked == ["drain", "kill"]


def test_a_second_signal_is_passed_on_once():
    scene = Scene().started()
    scene.asked = True
    scene.turn()
    scene.hurried = True
    scene.turn()
    scene.turn()
    assert [child.asked for child in scene.spawned] == [["drain", "hurry"]] * 2


def test_one_that_never_answers_is_killed_once_and_started_again():
    scene = Scene()
    scene.turn()
    scene.spawned[1].ready(scene.now)
    for _ in range(int(UNHEARD)):
        scene.spawned[1].heard = scene.now
        scene.turn(1.0)
    assert scene.spawned[0].asked == []
    scene.spawned[1].heard = scene.now
    scene.turn(1.0)
    assert scene.spawned[0].asked == ["kill"]
    assert scene.turn() is None
    scene.turn(FIRST_PAUSE + 0.1)
    assert [child.number for child in scene.spawned] == [1, 2, 1]


def test_one_that_stops_answering_is_killed_and_one_that_is_only_not_ready_is_not():
    scene = Scene().started()
    deaf, busy = scene.spawned
    deaf.problem, busy.problem = "the poll loop has not turned", "the broker does not answer"
    for _ in range(int(DEAF) - 1):
        busy.heard = scene.now
        scene.turn(1.0)
    assert deaf.asked == []
    busy.heard = scene.now
    scene.turn(2.0)
    assert (deaf.asked, busy.asked) == (["kill"], [])
    line = next(line for line in scene.logs if line["event"] == "process_hangs")
    assert (line["process"], line["problem"]) == (1, "the poll loop has not turned")


def test_one_that_a_kill_does_not_end_is_killed_and_logged_once():
    scene = Scene().started()
    deaf, other = scene.spawned
    deaf.problem, deaf.kill = "it does not answer", lambda: deaf.asked.append("kill")
    other.heard = scene.now + 1_000
    for _ in range(100):
        scene.turn(1.0)
    assert deaf.asked == ["kill"]
    assert [line["event"] for line in scene.logs].count("process_hangs") == 1


def test_it_is_ready_when_every_child_is_and_else_says_which_is_not():
    scene = Scene()
    assert scene.fleet.ready() == "process 1: it is started again soon"
    scene.turn()
    assert scene.fleet.ready() == "process 1: it is starting"
    scene.spawned[0].ready(scene.now)
    assert scene.fleet.ready() == "process 2: it is starting"
    scene.spawned[1].ready(scene.now)
    assert scene.fleet.ready() is None


def test_it_is_alive_while_its_loop_turns():
    scene = Scene()
    scene.turn()
    scene.now += STUCK
    assert scene.fleet.live() is None
    scene.now += 5
    assert scene.fleet.live() == f"the supervisor's loop has not turned for {STUCK + 5:.0f} s"


def test_ports_are_those_of_the_children_that_answer():
    scene = Scene()
    assert scene.fleet.ports() == {1: None, 2: None}
    scene.turn()
    scene.spawned[1].ready(scene.now)
    assert scene.fleet.ports() == {1: None, 2: 1_234}
