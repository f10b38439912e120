"""The consumer side on a real broker, where the worker process shows too little of it."""

import pytest

from tests.support.kafka_helpers import Message, committed, produce, wait_until


@pytest.fixture
def source(kafka, topic):
    from worker.kafka.cluster.clients import Connection
    from worker.kafka.consume.group import Group
    from worker.kafka.consume.membership import Membership
    from worker.kafka.consume.source import Source

    name = topic("in", partitions=2)
    made = Source(
        connection=Connection(bootstrap_servers=kafka, client_id="test"),
        group=Group(
            topic=name,
            group_id=name,
            instance_id=None,
            assignment="cooperative-sticky",
            session_timeout=10,
            heartbeat_interval=3,
            max_poll_interval=300,
            fetch_max_bytes=1 << 20,
        ),
        membership=Membership(),
        before_revocation=lambda _: {},
        on_commit=lambda _: None,
        on_expired=lambda _: None,
    )
    made.name = name
    yield made
    made.close(timeout=5, leave=True)


def received(source, count):
    records = []

    def enough():
        records.extend(source.poll(timeout=0.05, max_records=100, max_bytes=10**9))
        return len(records) >= count

    wait_until(enough, 60, f"{count} records")
    return records


def test_a_rebuilt_consumer_goes_on_from_what_was_committed(kafka, source):
    sent = [Message(value=b"%d" % n, partition=n % 2) for n in range(20)]
    produce(kafka, source.name, sent)
    first = received(source, 20)
    before = source.leases
    assert len(before) == 2
    source.commit_now(dict.fromkeys(before, 4), timeout=10)
    source.rebuild("a test")
    assert sorted(source.take_ended()) == sorted(before)
    again = received(source, 12)
    assert {r.offset for r in again} == set(range(4, 10))
    assert not {r.lease for r in again} & {r.lease for r in first}
    assert set(committed(kafka, source.name).values()) == {4}


def test_leases_that_ended_are_not_committed(kafka, source):
    produce(kafka, source.name, [Message(value=b"1", partition=0)])
    received(source, 1)
    old = source.leases
    source.rebuild("a test")
    received(source, 1)
    source.commit_now(dict.fromkeys(old, 1), timeout=10)
    assert not any(committed(kafka, source.name).values())
