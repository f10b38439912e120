"""Settings to topics: what the settings ask of them beyond their existence."""

import pytest

from worker import settings
from worker.connect import checked, start
from worker.errors import Refused
from worker.kafka.cluster.topics import Topic, Topics


class Desk:
    """Topics of so many partitions."""

    def __init__(self, **partitions):
        self.topics = Topics(**{
            role: Topic(name=role, id=None, partitions=count, max_message_bytes=1, compacted=False,
                        earliest_ms=0, latest_ms=0)
            for role, count in partitions.items()
        })  # fmt: skip

    def check(self, **_):
        return self.topics


@pytest.mark.parametrize(
    ("given", "latest", "time_ms"),
    [
        ("earliest", False, None),
        ("latest", True, None),
        ("1970-01-01T00:00:01Z", False, 1_000),
        ("1970-01-01T01:00:00.5+01:00", False, 500),
        ("2026-11-22 10:00:00+00:00", False, 1_795_341_600_000),
    ],
)
def test_the_start_of_a_group_is_a_place_or_a_time(given, latest, time_ms):
    topics = Desk(input=4, output=4, dlq=1).topics
    found = start(settings.load(["--input.start", given]), topics)
    assert (found.latest, found.time_ms, found.partitions) == (latest, time_ms, 4)


@pytest.mark.parametrize("given", ["", "now", "5", "2026-11-22", "2026-11-22T10:00:00", "LATEST"])
def test_any_other_start_is_refused_in_one_line(given):
    with pytest.raises(Refused) as told:
        settings.load(["--input.start", given])
    assert str(told.value) == (
        f"--input.start: {given!r} is none of earliest, latest and a time with its zone "
        "(2026-11-22T10:00:00Z)"
    )


@pytest.mark.parametrize(
    "given",
    ["", "1,1", "2,1", "0,1", "-1", "1,inf", "nan", "x", "1;2", ",".join(map(str, range(1, 60)))],
)
def test_bounds_that_are_none_are_refused_in_one_line(given):
    with pytest.raises(Refused, match=r"^--metrics.record-buckets: .* is not up to 50 rising"):
        settings.load(["--metrics.record-buckets", given])


@pytest.mark.parametrize(
    ("partition", "there", "refused"),
    [
        ("key", 1, False),
        ("input", 4, False),
        ("input", 5, False),
        ("input", 3, True),
        ("input", 1, True),
    ],
)
def test_labels_in_the_partition_of_their_record_need_as_many(partition, there, refused):
    desk = Desk(input=4, output=there, dlq=1)
    chosen = settings.load(["--output.partition", partition])
    if not refused:
        assert checked(desk, chosen) is desk.topics
        return
    with pytest.raises(Refused) as told:
        checked(desk, chosen)
    assert str(told.value) == (
        "output.partition: input needs as many partitions as input has (4); output has "
        f"{there}: add some to it, or set output.partition=key"
    )
