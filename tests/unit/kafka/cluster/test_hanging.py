"""Which transactions hang: those whose partition's last stable offset stands still for long."""

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from worker.errors import Refused
from worker.kafka.cluster.hanging import (
    LONGEST_STEP,
    Ends,
    Hanging,
    TopicPart,
    TransactionWatch,
)

ONE, OTHER = TopicPart("in", 0), TopicPart("out", 3)


def test_a_stable_offset_that_stands_still_below_the_end_for_long_hangs():
    hanging = Hanging(after=100)
    assert hanging.update({ONE: Ends(5, 9)}, 0) == {}
    assert hanging.update({ONE: Ends(5, 12)}, 50) == {}
    assert hanging.update({ONE: Ends(5, 12)}, 100) == {}
    assert hanging.update({ONE: Ends(5, 13)}, 101) == {ONE: 5}
    assert hanging.update({ONE: Ends(13, 13)}, 110) == {}


def test_one_that_moves_never_hangs_however_far_it_is_behind():
    hanging = Hanging(after=10)
    for second in range(0, 1_000, 5):
        assert hanging.update({ONE: Ends(second, 10**9)}, second) == {}


def test_an_idle_partition_never_hangs():
    hanging = Hanging(after=10)
    for second in range(0, 1_000, 5):
        assert hanging.update({ONE: Ends(7, 7)}, second) == {}


def test_a_move_starts_the_time_anew():
    hanging = Hanging(after=20)
    hanging.update({ONE: Ends(5, 9)}, 0)
    hanging.update({ONE: Ends(6, 9)}, 20)
    assert hanging.update({ONE: Ends(6, 9)}, 40) == {}
    assert hanging.update({ONE: Ends(6, 9)}, 41) == {ONE: 6}


def test_partitions_are_judged_apart_and_forgotten_when_they_go():
    hanging = Hanging(after=20)
    hanging.update({ONE: Ends(5, 9), OTHER: Ends(1, 4)}, 0)
    hanging.update({ONE: Ends(5, 9), OTHER: Ends(2, 4)}, 15)
    assert hanging.update({ONE: Ends(5, 9), OTHER: Ends(2, 4)}, 30) == {ONE: 5}
    hanging.update({OTHER: Ends(4, 4)}, 31)
    assert hanging.update({ONE: Ends(5, 9)}, 32) == {}


def test_an_outage_of_the_cluster_is_not_counted():
    hanging = Hanging(after=900)
    hanging.update({ONE: Ends(5, 9)}, 0)
    assert hanging.update({ONE: Ends(5, 9)}, 5_000) == {}
    assert hanging.update({ONE: Ends(5, 9)}, 5_000 + 900 - LONGEST_STEP) == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 60)), min_size=1))
def test_what_hangs_stood_still_below_the_end_for_longer_than_is_allowed(steps):
    hanging, now, history = Hanging(after=60), 0, []
    for stable, more, pause in steps:
        now += pause
        found = hanging.update({ONE: Ends(stable, stable + more)}, now)
        history.append((now, stable, more))
        same = []
        for then, offset, beyond in reversed(history):
            if offset != stable or beyond == 0:
                break
            same.append(then)
        assert bool(found) == (bool(same) and now - same[-1] > 60)


def test_where_brokers_do_not_name_producers_a_hanging_transaction_is_logged_without():
    class Desk:
        def offers(self):
            return {}

        def ask(self, _question):
            raise Refused("these brokers are too old for what the worker asks")

    watch = TransactionWatch(desk=Desk(), after=1.0, on_change=lambda _: None)
    with capture_logs() as logs:
        watch._log(TopicPart("in", 0), 7)
    assert [(line["event"], line["producer_id"]) for line in logs] == [
        ("hanging_transaction", None)
    ]
