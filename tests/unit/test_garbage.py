"""Python looks for cycles rarely, and never at what was there before."""

import gc

import pytest

from worker import garbage


@pytest.fixture
def restored():
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Node:
    """A cycle of its own."""

    ended = 0

    def __init__(self):
        self.itself = self

    def __del__(self):
        Node.ended += 1


@pytest.mark.usefixtures("restored")
def test_cycles_that_are_made_later_end():
    kept = Node()
    garbage.rarely()
    assert gc.get_freeze_count() > 1_000
    assert not any(one is kept for one in gc.get_objects())
    begin, most = Node.ended, 0
    for made in range(6 * garbage.YOUNGEST):
        Node()
        most = max(most, made + 1 - (Node.ended - begin))
    assert most <= 2 * garbage.YOUNGEST
    assert gc.isenabled()
