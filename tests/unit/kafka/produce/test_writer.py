"""What the writer learns from refusals: the limits of topics, read again."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

from tests.unit.kafka.produce.test_refusals import Sent  # noqa: E402 - importing the client warns
from worker.kafka.cluster.topics import Topic  # noqa: E402
from worker.kafka.produce import forecast  # noqa: E402
from worker.kafka.produce.forecast import LOOK_SECONDS  # noqa: E402
from worker.kafka.produce.outage import Outage  # noqa: E402
from worker.kafka.produce.writer import Writer  # noqa: E402

TOPIC = Topic("out", None, 1, 50_000, False, 2**63 - 1, 2**63 - 1)


class Cluster:
    """The topic as it is now, and what the clients were told and asked."""

    def __init__(self, monkeypatch):
        self.now, self.topic, self.asked, self.made = 0.0, TOPIC, 0, []
        monkeypatch.setattr(forecast, "limits_now", self.limits_now)
        monkeypatch.setattr(forecast.time, "monotonic", lambda: self.now)
        self.writer = Writer(
            connection=SimpleNamespace(producer=self.producer), topics={"out": TOPIC},
            compression="none", delivery_timeout=10,
            outage=Outage(limit=20, stopping=lambda: False),
        )  # fmt: skip

    def limits_now(self, _, topic):
        self.asked += 1
        return replace(topic, **{
            name: getattr(self.topic, name)
            for name in ("max_message_bytes", "compacted", "earliest_ms", "latest_ms")
        })  # fmt: skip

    def producer(self, **options):
        self.made.append(options)
        return SimpleNamespace(
            _sender=None, _accumulator=SimpleNamespace(has_incomplete=False),
            close=lambda **_: None,
        )  # fmt: skip


@pytest.fixture
def cluster(monkeypatch):
    return Cluster(monkeypatch)


def test_after_one_above_a_limit_that_fell_no_larger_or_smaller_one_above_it_is_tried(cluster):
    cluster.topic = replace(TOPIC, max_message_bytes=20_000)
    cluster.writer.forecast.refused(Sent(value=b"x" * 40_000), "too_large")
    tried = [n for n in range(39_900, 20_000, -100)
             if cluster.writer.forecast.refusal(Sent(value=b"x" * n)) is None]  # fmt: skip
    assert tried == []
    assert cluster.writer.forecast.refusal(Sent(value=b"x" * 19_500)) is None
    assert cluster.asked == 1


def test_producers_made_from_then_on_send_batches_within_the_new_limit(cluster):
    assert cluster.made[-1]["batch_size"] == 50_000
    cluster.topic = replace(TOPIC, max_message_bytes=20_000)
    cluster.writer.forecast.refused(Sent(value=b"x" * 40_000), "too_large")
    cluster.writer.discard(timeout=0)
    cluster.writer.ready()
    assert cluster.made[-1]["batch_size"] == 20_000


@pytest.mark.parametrize(
    ("now", "refused", "refusal", "others"),
    [
        ({"compacted": True}, Sent(key=None), "invalid", Sent(key=None, value=b"another")),
        ({"earliest_ms": 1_000}, Sent(timestamp=1), "timestamp", Sent(timestamp=10**12)),
    ],
)
def test_a_policy_that_changed_is_learnt_from_one_refusal(cluster, now, refused, refusal, others):
    assert cluster.writer.forecast.refusal(others) is None
    cluster.topic = replace(TOPIC, **now)
    cluster.writer.forecast.refused(refused, refusal)
    assert cluster.writer.forecast.refusal(others) in ("keyless", "timestamp")


def test_limits_are_read_after_a_refusal_but_not_after_each(cluster):
    for _ in range(50):
        cluster.writer.forecast.refused(Sent(), "invalid")
    assert cluster.asked == 1
    cluster.now += LOOK_SECONDS
    cluster.writer.forecast.refused(Sent(), "invalid")
    assert cluster.asked == 2


def test_one_above_the_known_limit_asks_for_nothing(cluster):
    cluster.writer.forecast.refused(Sent(value=b"x" * 60_000), "too_large")
    assert cluster.asked == 0
