"""Brokers that offer less of Kafka's protocol than Apache Kafka 4.4: emulated on the wire.

The proxy lowers what the real broker says that it offers, and closes the connection at a request
beyond that, as such a broker does.
"""

import json

import pytest
from kafka.protocol.broker_version_data import BROKER_API_VERSIONS

from tests.support.kafka_helpers import read_all
from tests.support.proxy import Api, Proxy
from tests.support.scene import Scene
from worker import check as checks
from worker import settings
from worker.errors import Refused
from worker.kafka.cluster import features
from worker.redrive.options import load
from worker.redrive.run import redrive

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


def least(needs):
    """Nothing but what is needed, in the oldest version that will do."""
    offers = dict.fromkeys(range(93))
    for need in needs:
        offers[need.api] = max(need.version, offers[need.api] or 0)
    return offers | {Api.API_VERSIONS: 4}


BROKERS = {
    "metadata 8, as Redpanda": ({Api.METADATA: 8}, BOTH),
    "metadata 5, as Event Hubs": ({Api.METADATA: 5}, BOTH),
    "nothing for administration": (dict.fromkeys(ADMINISTRATION), BOTH),
    "no transactions": (dict.fromkeys(TRANSACTIONS), BOTH[:1]),
    "Kafka 2.5": (kafka_of(2, 5), BOTH),
    "Kafka 2.1": (kafka_of(2, 1), BOTH[:1]),
    "the least": (least(features.ALWAYS), BOTH[:1]),
    "the least with transactions": (
        least(features.ALWAYS + features.TRANSACTIONS + features.STATIC_MEMBER),
        BOTH[1:],
    ),
}


@pytest.fixture
def scene(proxied_kafka, tmp_path):
    return Scene(*proxied_kafka, tmp_path, partitions=2)


def labels(scene):
    """The ids that were labelled."""
    outputs = read_all(scene.direct, scene.names["output_topic"], "read_committed")
    return sorted(json.loads(output.value)["id"] for output in outputs)


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
    assert labels(scene) == list(range(300))
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
        assert labels(scene) == list(range(200))
        assert not proxy.beyond


@pytest.fixture
def cluster_only(tmp_path, monkeypatch, capsys):
    """`check` without its checkpoint and device; what is printed."""
    monkeypatch.setattr(checks, "_device", lambda *_: None)
    monkeypatch.setattr(checks, "_checkpoint", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return capsys


NO_TRANSACTIONS = "these brokers offer no transactions: use delivery.guarantee=at_least_once ("


def test_exactly_once_without_transactions_ends_with_2_and_what_to_do(scene):
    scene.proxy.offer(dict.fromkeys(TRANSACTIONS))
    with scene.worker(delivery__guarantee="exactly_once").start(ready=False) as worker:
        assert worker.wait(60) == 2
        assert worker.events()[-1]["event"].startswith(NO_TRANSACTIONS)


@pytest.mark.parametrize(
    ("offers", "options", "line"),
    [
        (dict.fromkeys(TRANSACTIONS), ("--delivery.guarantee=exactly_once",), NO_TRANSACTIONS),
        (
            {Api.TXN_OFFSET_COMMIT: 2},
            ("--delivery.guarantee=exactly_once",),
            "these brokers are too old for delivery.guarantee=exactly_once: use delivery.guarantee",
        ),
        (
            {Api.JOIN_GROUP: 4},
            ("--kafka.replica-id=one",),
            "these brokers know no static members of a group: leave kafka.replica_id unset",
        ),
        (
            {Api.PRODUCE: 6},
            ("--kafka.compression=zstd",),
            "these brokers do not know kafka.compression=zstd: choose another",
        ),
        ({Api.FETCH: 3}, (), "these brokers cannot serve the worker (Fetch has version 3: "),
    ],
    ids=["no transactions", "old transactions", "static member", "zstd", "too old"],
)
def test_check_refuses_what_brokers_do_not_have_and_names_the_setting(
    scene, cluster_only, offers, options, line
):
    scene.proxy.offer(offers)
    topics = [f"--{name.replace('_', '.')}={value}" for name, value in scene.names.items()]
    servers = f"--kafka.bootstrap-servers={scene.proxy.bootstrap_servers}"
    assert checks.check(settings.load([servers, *topics, *options], command="check")) == 2
    (printed,) = cluster_only.readouterr().err.splitlines()
    assert printed.startswith(f"emotion-worker: {line}")


def test_redrive_is_refused_without_transactions_but_for_a_dry_run(scene, tmp_path, monkeypatch):
    scene.proxy.offer(dict.fromkeys(TRANSACTIONS))
    monkeypatch.chdir(tmp_path)
    topics = [f"--{role}.topic={scene.names[f'{role}_topic']}" for role in ("input", "dlq")]
    options = [f"--kafka.bootstrap-servers={scene.proxy.bootstrap_servers}", *topics]
    with pytest.raises(Refused, match=r"no transactions: only a dry run is possible \(InitProduc"):
        redrive(load(options))
    assert redrive(load([*options, "--dry-run"])) == 0
