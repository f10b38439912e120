"""What came out against what went in: missing, doubled, out of order, wrong.

Read with librdkafka, not with the client under test: a reader that shares the worker's client
would share its faults.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from tests.support.fakes import expected_label
from tests.support.kafka_helpers import end_offsets, wait_until

_QUIET = {"log_level": 2, "error_cb": lambda _: None}  # brokers are away on purpose here


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A record as the reader got it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = -1


@dataclass(kw_only=True)
class Verdict:
    """The inputs are known by partition and offset; each list has at most a few of many."""

    inputs: int
    labelled: int = 0
    dead_lettered: int = 0
    doubled: int = 0
    """Outputs beyond the first of their input."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    """First outputs that come behind those of a later input of the same partition or key."""
    wrong: list[str] = field(default_factory=list)
    """Outputs of no input, or with another label, id, key or timestamp than theirs."""

    @property
    def exactly_once(self) -> bool:
        return not (self.missing or self.doubled or self.disordered or self.wrong)

    def __str__(self) -> str:
        share = self.doubled / self.inputs if self.inputs else 0.0
        return (
            f"{self.inputs} inputs: {len(self.missing)} missing, {self.doubled} doubled "
            f"({share:.2%}), {len(self.disordered)} out of order, {len(self.wrong)} wrong, "
            f"{self.dead_lettered} dead-lettered"
        )


def audit(
    inputs: list[Seen],
    outputs: list[Seen],
    dead_letters: list[Seen],
    *,
    topic: str,
    expected: Callable[[str], str] | None = expected_label,
) -> Verdict:
    """Every input against its outputs, by the source that an output names.

    Inputs are JSON objects with `text` and `id`. Outputs are in the order of their log:
    `partition` then `offset`.

    Args:
        inputs, outputs, dead_letters: What the three topics hold.
        topic: The input's name.
        expected: The label of a text, by default the stub model's; None: any label will do.
    """
    verdict = Verdict(inputs=len(inputs))
    by_source = {(record.partition, record.offset): record for record in inputs}
    found: Counter[tuple[int, int]] = Counter()
    latest: dict[tuple[Any, ...], int] = {}
    for output in outputs:
        verdict.labelled += 1
        value = json.loads(output.value or b"{}")
        named = value.get("source", {})
        source = named.get("partition"), named.get("offset")
        record = by_source.get(source) if named.get("topic") == topic else None
        if record is None:
            verdict.wrong.append(f"{_where(output)}: no input is {named}")
            continue
        if problem := _problem(record, output, value, expected):
            verdict.wrong.append(f"{_where(output)}: input {source}: {problem}")
        found[source] += 1
        if found[source] > 1:
            continue
        # A key's inputs share a partition, so their offsets compare.
        for series in (("partition", source[0], output.partition), ("key", record.key)):
            if record.key is None and series[0] == "key":
                continue
            before = latest.get(series, -1)
            if source[1] < before:
                verdict.disordered.append(f"{_where(output)}: {source} behind {before} ({series})")
            latest[series] = max(before, source[1])
    for letter in dead_letters:
        verdict.dead_lettered += 1
        ours = dict(letter.headers)
        source = int(ours["dlq.partition"] or -1), int(ours["dlq.offset"] or -1)
        if source in by_source and ours["dlq.topic"] == topic.encode():
            found[source] += 1
        else:
            verdict.wrong.append(f"dead letter {_where(letter)}: no input is {source}")
    verdict.missing = sorted(source for source in by_source if not found[source])
    verdict.doubled = sum(count - 1 for count in found.values() if count > 1)
    return verdict


def _problem(
    record: Seen, output: Seen, value: dict[str, Any], expected: Callable[[str], str] | None
) -> str:
    sent = json.loads(record.value or b"{}")
    label = expected(sent["text"]) if expected else value["label"]
    pairs = {
        "label": (label, value["label"]),
        "id": (sent["id"], value["id"]),
        "key": (record.key, output.key),
        "timestamp": (record.timestamp, output.timestamp),
    }
    odd = [f"{name} {b!r}, not {a!r}" for name, (a, b) in pairs.items() if a != b]
    return ", ".join(odd)


def _where(record: Seen) -> str:
    return f"{record.partition}@{record.offset}"


def read_committed(bootstrap: str, topic: str, timeout: float = 120.0) -> list[Seen]:
    """All that a `read_committed` reader sees, by partition and offset.

    Waits first for transactions that are open, such as those of the killed: the log behind them
    cannot be seen before the broker has aborted them.
    """

    def settled() -> bool:
        stable = end_offsets(bootstrap, topic, "read_committed")
        ends.update(stable)
        return stable == end_offsets(bootstrap, topic)

    ends: dict[Any, int] = {}
    wait_until(settled, timeout, f"{topic}: a transaction stays open", every=0.5)
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            **_QUIET,
        }
    )
    records: list[Seen] = []
    reading = {partition.partition for partition in ends}
    try:
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in reading])

        def read() -> bool:
            for message in reader.consume(5_000, timeout=1.0):
                error = message.error()
                if error is None:
                    records.append(_seen(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    reading.discard(message.partition())
                elif not error.retriable():
                    raise AssertionError(f"{topic}: {error}")
            return not reading

        wait_until(read, timeout, f"the end of {topic}", every=0)
    finally:
        reader.close()
    return sorted(records, key=lambda r: (r.partition, r.offset))


def _seen(message: Any) -> Seen:
    return Seen(
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
        timestamp=message.timestamp()[1],
    )
