"""Topics as brokers of several ages describe them."""

import kafka.errors
import pytest
from kafka.protocol.broker_version_data import BROKER_API_VERSIONS
from structlog.testing import capture_logs

from worker.errors import Fatal, Refused, Transient
from worker.kafka.cluster.clients import Connection
from worker.kafka.cluster.features import Use
from worker.kafka.cluster.topics import TopicDesk

NAMES = {"input_topic": "in", "output_topic": "out", "dlq_topic": "dlq"}
ID = "b9f8e523-504d-45d3-9e1a-a09c9ce5e737"


class Cluster:
    """An admin client of brokers that offer what `version` of Kafka does."""

    def __init__(self, *version, lacks=()):
        table = BROKER_API_VERSIONS[version]
        self.broker_version_data = self._manager = self
        self.api_versions = {api: versions for api, versions in table.items() if api not in lacks}
        self.ids = dict.fromkeys(("in", "out", "dlq"), ID)
        self.limits = {}
        self.closed = False

    def describe_topics(self, names):
        found = [{"name": name, "error_code": 0, "partitions": [0]} for name in names]
        for topic in found:
            if self.ids[topic["name"]] is not None:
                topic["topic_id"] = self.ids[topic["name"]]
        return found

    def describe_groups(self, groups):
        assert 15 in self.api_versions
        return {group: {} for group in groups}

    def describe_cluster(self):
        return {"brokers": [{"broker_id": 1}]}

    def describe_configs(self, resources, **_):
        if 32 not in self.api_versions:
            raise kafka.errors.IncompatibleBrokerVersion("no DescribeConfigs")
        found = {"topic": {}, "broker": {}}
        for resource in resources:
            kind = found[resource.resource_type.name.lower()]
            kind[resource.name] = {key: {"value": value} for key, value in self.limits.items()}
        return found

    def close(self):
        self.closed = True


def desk(cluster):
    made = TopicDesk(connection=Connection(bootstrap_servers="nowhere:1", client_id="test"))
    made._admin = cluster
    return made


def check(desk, use=None):
    return desk.check(**NAMES, group="g", transactional_id=None, use=use or Use())


def test_without_topic_ids_a_worker_starts_and_goes_on():
    cluster = Cluster(2, 1)
    cluster.ids = dict.fromkeys(cluster.ids)
    asked = desk(cluster)
    topics = check(asked)
    assert (topics.input.id, topics.input.partitions) == (None, 1)
    assert asked.verify(topics) == topics


def test_an_id_that_brokers_give_later_is_no_other_topic():
    """While they are upgraded the ids are zero at first, and then there."""
    cluster = Cluster(4, 3)
    cluster.ids = dict.fromkeys(cluster.ids, "00000000-0000-0000-0000-000000000000")
    asked = desk(cluster)
    topics = check(asked)
    cluster.ids = dict.fromkeys(cluster.ids, ID)
    assert asked.verify(topics) == topics


def test_another_id_is_another_topic():
    cluster = Cluster(4, 3)
    asked = desk(cluster)
    topics = check(asked)
    cluster.ids["out"] = ID[::-1]
    with pytest.raises(Fatal, match="topic out was deleted and made again"):
        asked.verify(topics)


def test_what_is_done_without_is_logged_once():
    asked = desk(Cluster(4, 3, lacks=(32, 15)))
    with capture_logs() as logs:
        topics = check(asked)
        check(asked)
    assert topics.output.max_message_bytes == 1_048_588
    lacking = [line["what"].split()[0] for line in logs if line["event"] == "brokers_lack"]
    assert lacking == ["DescribeGroups", "DescribeConfigs"]


def test_brokers_that_cannot_serve_are_refused_before_anything_is_asked():
    use = Use(transactions="delivery.guarantee=exactly_once", instead="use at_least_once")
    with pytest.raises(Refused, match="these brokers offer no transactions: use at_least_once"):
        check(desk(Cluster(4, 3, lacks=(22, 24, 25, 26, 28))), use)


def test_a_question_that_brokers_do_not_know_is_refused_for_good():
    """Any other error of the cluster is waited for."""
    cluster = Cluster(4, 3)
    asked = desk(cluster)

    def fails(error):
        def ask(_):
            raise error

        return ask

    with pytest.raises(Refused, match="too old for what the worker asks: no such request"):
        asked.ask(fails(kafka.errors.IncompatibleBrokerVersion("no such request")))
    assert cluster.closed
    asked._admin = cluster
    with pytest.raises(Transient, match="the cluster does not answer: UnknownError"):
        asked.ask(fails(kafka.errors.UnknownError()))


@pytest.mark.parametrize("value", [None, "", "many"])
def test_limits_that_are_no_numbers_are_not_known(value):
    """As other brokers than Kafka's answer."""
    cluster = Cluster(4, 3)
    cluster.limits = {"transaction.max.timeout.ms": value}
    assert desk(cluster).broker_limits("transaction.max.timeout.ms") == {}


def test_limits_of_the_brokers_are_refused_with_their_name():
    cluster = Cluster(4, 3)
    cluster.limits = {
        "transaction.max.timeout.ms": "14999",
        "group.min.session.timeout.ms": "6000",
        "group.max.session.timeout.ms": "9999",
    }
    with pytest.raises(Refused, match=r"kafka\.session_timeout of 10 s .*max\.session.*=9999"):
        check(desk(cluster), Use(session_timeout=10.0))
    assert check(desk(cluster), Use(session_timeout=6.0)).input.name == "in"
    with pytest.raises(Refused, match=r"transaction\.max\.timeout\.ms=14999 .* 15000 at least"):
        check(desk(cluster), Use(transaction_timeout=15.0))
