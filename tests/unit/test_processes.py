"""What the processes of a test run share."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.processes import Room, once


@pytest.fixture
def factory(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    class Factory:
        def getbasetemp(self):
            return tmp_path

    return Factory()


@contextlib.contextmanager
def entered(room, *, alone):
    room.enter(alone=alone)
    try:
        yield
    finally:
        room.leave()


def test_many_are_in_the_room_together_and_one_that_must_be_alone_is_alone(tmp_path):
    inside, most, beside_a_lone_one = set(), [0], []
    counting = threading.Lock()
    together = threading.Barrier(3)

    def visit(number, *, alone):
        # Locks are held by open files: threads with files of their own are like processes.
        with entered(Room(tmp_path), alone=alone):
            with counting:
                inside.add(number)
                most[0] = max(most[0], len(inside))
            if alone:
                beside_a_lone_one.append(len(inside) - 1)
            elif number < 3:
                together.wait(30)  # all three are in at once, or this fails
            with counting:
                inside.discard(number)

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(visit, number, alone=False) for number in range(3)]
        for each in first:
            each.result(60)
        rest = [pool.submit(visit, number, alone=number % 3 == 0) for number in range(3, 60)]
        for each in rest:
            each.result(60)
    assert most[0] >= 3
    assert beside_a_lone_one == [0] * 19


def test_whoever_waits_to_be_alone_is_not_passed_by_newcomers(tmp_path):
    order, leave = [], threading.Event()
    inside, waits = threading.Event(), threading.Event()

    def first():
        with entered(Room(tmp_path), alone=False):
            inside.set()
            leave.wait(30)
            order.append("first")

    def lone():
        waits.set()
        with entered(Room(tmp_path), alone=True):
            order.append("lone")

    def newcomer():
        with entered(Room(tmp_path), alone=False):
            order.append("newcomer")

    threads = [threading.Thread(target=each) for each in (first, lone, newcomer)]
    threads[0].start()
    inside.wait(30)
    threads[1].start()
    waits.wait(30)
    door = (tmp_path / "door.lock").open("w")
    held = False
    while not held:  # until the lone one holds the door
        held = _is_held(door)
    threads[2].start()
    leave.set()
    for thread in threads:
        thread.join(30)
    door.close()
    assert order == ["first", "lone", "newcomer"]


def _is_held(file):
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def test_what_is_made_once_is_made_once_however_many_ask(factory):
    made = []

    def make(path):
        made.append(path)
        path.write_text("whole")

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: once(factory, "thing", make).read_text(), range(12)))
    assert found == ["whole"] * 12
    assert len(made) == 1


def test_what_could_not_be_made_is_tried_again_by_the_next_from_nothing(factory):
    def fail(path):
        path.mkdir()
        (path / "half").touch()
        raise ValueError("no luck")

    def make(path):
        path.mkdir()
        (path / "whole").touch()

    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            once(factory, "thing", fail)
    path = once(factory, "thing", make)
    assert [file.name for file in path.iterdir()] == ["whole"]
