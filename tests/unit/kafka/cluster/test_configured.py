"""The limits of topics that their configuration says, and those of a client that may not ask."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError  # noqa: E402
from kafka.protocol.api_key import ApiKey  # noqa: E402

from worker.errors import Transient  # noqa: E402
from worker.kafka.cluster.configured import limits_now  # noqa: E402
from worker.kafka.cluster.topics import Topic  # noqa: E402

TOPIC = Topic("out", "id", 7, 1_000, False, 2**63 - 1, 3_600_000)


@dataclass(frozen=True)
class Link:
    admin: Callable
    patience: float = 10.0
    thorough: bool = True

    def trouble(self, error):
        assert (self.patience, self.thorough) == (3.0, False), "outputs wait meanwhile"
        return str(error)


class Admin:
    def __init__(self, answer, offered):
        self.answer, self.closed = answer, False
        versions = {ApiKey.DescribeConfigs: (0, 4)} if offered else {}
        data = SimpleNamespace(api_versions=versions)
        self._manager = SimpleNamespace(broker_version_data=data)

    def describe_configs(self, _, config_filter):
        assert config_filter == "all"
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"topic": {"out": {name: {"value": said} for name, said in self.answer.items()}}}

    def close(self):
        self.closed = True


def asked(answer, *, offered=True):
    admin = Admin(answer, offered)
    topic = limits_now(Link(lambda: admin), TOPIC)
    assert admin.closed
    return topic


def test_limits_are_those_of_now_and_all_else_is_as_it_was():
    found = asked({
        "max.message.bytes": "500", "cleanup.policy": "compact,delete",
        "message.timestamp.before.max.ms": "10", "message.timestamp.after.max.ms": "20",
    })  # fmt: skip
    assert found == Topic("out", "id", 7, 500, True, 10, 20)


@pytest.mark.parametrize(
    "answer",
    [
        TopicAuthorizationFailedError(), KafkaTimeoutError(), ValueError("of the client"),
        {"max.message.bytes": None},
    ],
)  # fmt: skip
def test_a_client_that_may_not_ask_or_gets_no_answer_keeps_what_it_knows(answer):
    assert asked(answer) is TOPIC


def test_brokers_that_do_not_tell_are_not_asked():
    assert asked({"max.message.bytes": "500"}, offered=False) is TOPIC


def test_where_no_broker_can_be_reached_what_is_known_stays():
    def admin():
        raise Transient("nobody")

    assert limits_now(Link(admin), TOPIC) is TOPIC
