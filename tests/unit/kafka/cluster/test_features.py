"""What older brokers lack: what the worker refuses, and what it goes without."""

import pytest
from kafka.protocol.api_key import ApiKey
from kafka.protocol.broker_version_data import BROKER_API_VERSIONS

from worker.kafka.cluster.features import DISPENSABLE, Use, offered

NEW = BROKER_API_VERSIONS[4, 3]
EXACTLY_ONCE = Use(
    transactions="delivery.guarantee=exactly_once",
    instead="use delivery.guarantee=at_least_once",
    static_member=True,
)
AT_LEAST_ONCE = Use()


def without(*apis, **highest):
    """Kafka 4.3 without these requests, or with these versions of them at most."""
    most = {ApiKey[name]: version for name, version in highest.items()}
    return {
        api: (low, min(high, most.get(api, high)))
        for api, (low, high) in NEW.items()
        if api not in apis
    }


def names(use, offers):
    return [lack.split()[0] for lack, _ in use.lacks(offers)]


@pytest.mark.parametrize("use", [AT_LEAST_ONCE, EXACTLY_ONCE])
def test_a_new_kafka_lacks_nothing(use):
    assert use.refusal(NEW) is None
    assert names(use, NEW) == []


def test_requests_that_this_client_does_not_know_are_no_matter():
    assert EXACTLY_ONCE.refusal({**NEW, 9_999: (0, 7)}) is None


@pytest.mark.parametrize(
    "api", ["InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "TxnOffsetCommit"]
)
def test_brokers_without_transactions_are_refused_where_these_are_needed(api):
    offers = without(ApiKey[api])
    line = EXACTLY_ONCE.refusal(offers)
    assert line.startswith("these brokers offer no transactions: use delivery.guarantee=at_least_")
    assert f"{api} is missing: Kafka " in line
    assert AT_LEAST_ONCE.refusal(offers) is None


@pytest.mark.parametrize(
    ("api", "has", "needed"), [("TxnOffsetCommit", 2, 3), ("OffsetFetch", 6, 7)]
)
def test_transactions_of_old_brokers_are_refused_with_the_version_that_is_needed(api, has, needed):
    line = EXACTLY_ONCE.refusal(without(**{api: has}))
    assert line == (
        "these brokers are too old for delivery.guarantee=exactly_once: use "
        f"delivery.guarantee=at_least_once ({api} has version {has}: version {needed} is needed, "
        "of Kafka 2.5)"
    )


def test_what_no_worker_can_do_without_is_refused():
    line = AT_LEAST_ONCE.refusal(without(Fetch=3))
    assert line == (
        "these brokers cannot serve the worker (Fetch has version 3: version 4 is needed, of Kafka "
        "0.11)"
    )


def test_settings_that_an_old_broker_does_not_know_are_named():
    member = Use(static_member=True).refusal(without(JoinGroup=4))
    assert "leave kafka.replica_id unset" in member
    assert "JoinGroup has version 4" in member
    zstd = Use(compression="zstd").refusal(without(Produce=6))
    assert zstd.startswith("these brokers do not know kafka.compression=zstd: choose another")
    assert Use(compression="lz4").refusal(without(Produce=6)) is None


@pytest.mark.parametrize("lack", DISPENSABLE, ids=lambda lack: f"{lack.need.api.name}")
def test_what_can_be_done_without_is_named_and_not_refused(lack):
    offers = without(lack.need.api) if lack.need.version == 0 else without(
        **{lack.need.api.name: lack.need.version - 1}
    )  # fmt: skip
    assert not offered(offers, lack.need)
    assert AT_LEAST_ONCE.refusal(offers) is None
    assert lack.need.api.name in names(AT_LEAST_ONCE, offers)


def test_permissions_on_a_transactional_id_concern_only_those_who_have_one():
    offers = without(ApiKey.DescribeTransactions)
    assert names(AT_LEAST_ONCE, offers) == []
    assert names(EXACTLY_ONCE, offers) == ["DescribeTransactions"]


def test_only_a_static_member_is_told_that_it_cannot_leave_its_group():
    old = without(LeaveGroup=2)
    assert names(Use(static_member=True), old) == ["LeaveGroup"]
    assert names(EXACTLY_ONCE, old) == ["LeaveGroup"]
    assert names(AT_LEAST_ONCE, old) == []
    assert Use(static_member=True).refusal(old) is None
