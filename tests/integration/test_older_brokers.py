"""Brokers that offer less of Kafka's protocol than Apache Kafka 4.4: emulated on the wire.

The proxy lowers what the real broker says that it offers, and closes the connection at a request
beyond that, as such a broker does.
"""

import pytest
from kafka.protocol.broker_version_data import BROKER_API_VERSIONS

from tests.support.proxy import Api, Proxy
from tests.support.scene import Scene

TRANSACTIONS = (
    Api.INIT_PRODUCER_ID, Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN, Api.END_TXN,
    Api.TXN_OFFSET_COMMIT,
)  # fmt: skip
ADMINISTRATION = (
    Api.DESCRIBE_CONFIGS, Api.DESCRIBE_GROUPS, Api.DESCRIBE_CLUSTER, Api.DESCRIBE_PRODUCERS,
    Api.DESCRIBE_TRANSACTIONS, Api.LIST_TRANSACTIONS, Api.OFFSET_FOR_LEADER_EPOCH,
)  # fmt: skip
BOTH = ("at_least_once", "exactly_once")


def kafka_of(*version):
    """The highest versions of all requests of this Apache Kafka."""
    table = BROKER_API_VERSIONS[version]
    return {api: table[api][1] if api in table else None for api in range(93)}


BROKERS = {
    "metadata 8, as Redpanda": ({Api.METADATA: 8}, BOTH),
    "metadata 5, as Event Hubs": ({Api.METADATA: 5}, BOTH),
    "nothing for administration": (dict.fromkeys(ADMINISTRATION), BOTH),
    "no transactions": (dict.fromkeys(TRANSACTIONS), BOTH[:1]),
    "Kafka 2.5": (kafka_of(2, 5), BOTH),
    "Kafka 2.1": (kafka_of(2, 1), BOTH[:1]),
}


@pytest.fixture
def scene(proxied_kafka, tmp_path):
    return Scene(*proxied_kafka, tmp_path, partitions=2)


@pytest.mark.parametrize(
    ("broker", "guarantee"),
    [(name, guarantee) for name, (_, both) in BROKERS.items() for guarantee in both],
)
def test_every_record_is_labelled_once(scene, broker, guarantee):
    scene.proxy.offer(BROKERS[broker][0])
    scene.feed(300)
    with scene.worker(delivery__guarantee=guarantee).start() as worker:
        scene.wait_all_committed(worker)
        lacks = [e["what"] for e in worker.events() if e.get("event") == "brokers_lack"]
        assert len(lacks) == len(set(lacks))  # said once
        assert worker.stop() == 0
    assert scene.verdict().exactly_once
    assert not scene.proxy.beyond


def test_reading_goes_on_after_a_change_of_leaders_that_cannot_be_asked_about(own_kafka, tmp_path):
    """The client would ask where the old leader's log ended, again and again, and fetch nothing."""
    with Proxy() as proxy:
        broker = own_kafka(properties=proxy.broker_properties)
        proxy.offer({Api.OFFSET_FOR_LEADER_EPOCH: None})
        scene = Scene(broker.bootstrap_servers, proxy, tmp_path, partitions=1)
        scene.feed(100)
        with scene.worker().start() as worker:
            scene.wait_all_committed(worker)
            broker.restart(1)  # a new leader epoch
            scene.feed(100)
            scene.wait_all_committed(worker)
            assert not [e for e in worker.events() if e.get("event") == "consumer_rebuilt"]
            assert worker.stop() == 0
        assert scene.verdict().exactly_once
        assert not proxy.beyond
