"""Brokers that do not allow the worker's timeouts: refused by `check` and at the start."""

import pytest

from tests.support.kafka_helpers import admin, create_topic
from tests.support.proxy import Api, Proxy
from tests.support.scene import Scene
from worker import settings
from worker.connect import checked, connection
from worker.errors import Refused
from worker.kafka.cluster import limits
from worker.kafka.cluster.topics import TopicDesk

LIMITS = {
    "group.min.session.timeout.ms": "20000",
    "group.max.session.timeout.ms": "40000",
    "transaction.max.timeout.ms": "12000",
}


@pytest.fixture(scope="module")
def strict():
    """A broker with narrow limits, behind a proxy."""
    from tests.conftest import _start

    with Proxy() as proxy:
        broker = _start(properties={**proxy.broker_properties, **LIMITS})
        for name in ("tweets", "emotions", "tweets.dlq"):
            create_topic(broker.bootstrap_servers, name)
        yield broker.bootstrap_servers, proxy
        broker.stop()


@pytest.fixture
def ask(strict, tmp_path, monkeypatch):
    """Asks the broker as `check` and a start do, with these options."""
    monkeypatch.chdir(tmp_path)
    proxy = strict[1]
    proxy.clear()
    desks = []

    def ask(*options):
        chosen = settings.load([f"--kafka.bootstrap-servers={proxy.bootstrap_servers}", *options])
        desks.append(TopicDesk(connection=connection(chosen)))
        return checked(desks[-1], chosen)

    yield ask
    for desk in desks:
        desk.close()


@pytest.mark.kafka
@pytest.mark.parametrize("seconds", [10, 19.999, 40.001, 300])
def test_a_session_timeout_beyond_the_brokers_limits_is_refused_with_both(ask, seconds):
    with pytest.raises(Refused) as refused:
        ask(f"--kafka.session-timeout={seconds}")
    assert str(refused.value).startswith(f"kafka.session_timeout of {seconds:g} s is not between ")
    assert "group.min.session.timeout.ms=20000 and group.max.session.timeout.ms=40000" in str(
        refused.value
    )


@pytest.mark.kafka
@pytest.mark.parametrize("seconds", [20, 40])
def test_one_within_them_is_not(ask, seconds):
    assert ask(f"--kafka.session-timeout={seconds}").input.name == "tweets"


@pytest.mark.kafka
def test_where_limits_are_unknown_the_coordinator_is_asked(ask, strict):
    strict[1].offer({Api.DESCRIBE_CONFIGS: None})
    with pytest.raises(Refused, match=r"kafka\.session_timeout of 10 s .* group\.min\.session"):
        ask("--kafka.session-timeout=10")
    assert ask("--kafka.session-timeout=30").input.name == "tweets"
    with admin(strict[0]) as client:  # as before: nobody has joined
        assert client.describe_groups(["emotion-worker"])["emotion-worker"]["members"] == []


@pytest.mark.kafka
def test_transactions_that_take_longer_than_the_brokers_allow_are_refused(ask):
    options = "--kafka.session-timeout=30", "--delivery.guarantee=exactly_once"
    with pytest.raises(Refused, match=r"transaction\.max\.timeout\.ms=12000 .* of 15 s"):
        ask(*options)


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kafka__session_timeout": 10}, "kafka.session_timeout of 10 s"),
        (
            {"kafka__session_timeout": 30, "delivery__guarantee": "exactly_once"},
            "the brokers' transaction.max.timeout.ms",
        ),
    ],
    ids=["session", "transaction"],
)
@pytest.mark.parametrize("configs", ["known", "unknown"])
def test_a_worker_ends_with_2_and_the_line(strict, tmp_path, options, line, configs):
    proxy = strict[1]
    proxy.clear()
    if configs == "unknown":
        proxy.offer({Api.DESCRIBE_CONFIGS: None})
    with Scene(*strict, tmp_path, partitions=1).worker(**options).start(ready=False) as worker:
        assert worker.wait(60) == 2
        assert worker.events()[-1]["event"].startswith(line)


def polls(source):
    for _ in range(20):
        source.poll(timeout=1.0, max_records=1, max_bytes=1)


@pytest.mark.kafka
def test_limits_that_change_while_a_worker_is_away_end_it_with_2_too(strict, tmp_path, monkeypatch):
    """Where the check at the start could not see them: the group's coordinator refuses."""
    from worker.kafka.consume.group import Group
    from worker.kafka.consume.membership import Membership
    from worker.kafka.consume.source import Source

    chosen = settings.load([f"--kafka.bootstrap-servers={strict[0]}", "--kafka.session-timeout=10"])
    source = Source(
        connection=connection(chosen),
        group=Group(
            topic="tweets", group_id="late", instance_id=None, assignment="cooperative-sticky",
            session_timeout=10.0, heartbeat_interval=3.0, max_poll_interval=300.0,
            fetch_max_bytes=1_000_000,
        ),
        membership=Membership(),
        before_revocation=lambda _: {},
        on_commit=lambda _: None,
        on_expired=lambda _: None,
    )  # fmt: skip
    try:
        with pytest.raises(Refused) as refused:
            polls(source)
    finally:
        source.close(timeout=1.0, leave=False)
    assert str(refused.value) == limits.session_refused(10.0)
