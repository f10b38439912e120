"""An Outcome to the record that is produced for it: the output half of the wire contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from worker.records import Classified, Outcome, Output, Rejection

if TYPE_CHECKING:
    from worker.errors import Reason
    from worker.records import Record

TRUNCATED_VALUE_BYTES = 1_024
"""Bytes that a dead letter keeps of a value that is too large: enough to recognise the record."""

_OF_THE_VALUE = frozenset(
    {
        # HTTP, AMQP, Azure, CloudEvents, Spring Cloud Stream, NServiceBus
        *("content_type", "contenttype", "originalcontenttype", "nservicebus.contenttype"),
        *("content_encoding", "contentencoding", "content_transfer_encoding"),
        *("content_length", "contentlength"),
        # Spring for Apache Kafka, Spring Integration: class of the value, of what it contains, and
        # of its keys where it is a map. Those of the record's key begin with __key_.
        *("__typeid__", "__contenttypeid__", "__keytypeid__"),
        *("json__typeid__", "json__contenttypeid__", "json__keytypeid__"),
        "spring.kafka.serialization.selector",
        # Schema registries: Confluent, Cloudera, Google Pub/Sub
        *("__value_schema_id", "value.schema.version.id"),
        *("googclient_schemaname", "googclient_schemaencoding", "googclient_schemarevisionid"),
        # CloudEvents
        *("ce_datacontenttype", "ce_datacontentencoding", "ce_dataschema", "ce_schemaurl"),
    }
)
"""Headers that say how a record's value is encoded, in lower case and with _ for -."""
_OF_THE_VALUE_PREFIX = "apicurio.value."


class Encoder:
    """Turns outcomes into outputs.

    Args:
        output_topic: Topic of labels and forwarded tombstones.
        dlq_topic: Topic of dead letters.
        output_partitions: Partitions of the output topic. A record without a key goes to its
            own partition's number modulo this, so that a partition's order is kept.
        by_key: Whether one with a key goes where its key says, and not to its own partition's
            number too.
        labels: The checkpoint's labels, in the order of the scores.
        model_name: Name of the checkpoint, written with every label.
        model_version: Version of the checkpoint, likewise.
    """

    def __init__(
        self,
        *,
        output_topic: str,
        dlq_topic: str,
        output_partitions: int,
        by_key: bool = True,
        labels: tuple[str, ...],
        model_name: str,
        model_version: str,
    ) -> None:
        self._output_topic = output_topic
        self._dlq_topic = dlq_topic
        self._partitions = output_partitions
        self._by_key = by_key
        self._labels = labels
        self._model = {"name": model_name, "version": model_version}

    def encode(self, outcome: Outcome, *, refused_timestamp: bool = False) -> Output:
        """The output of one outcome.

        Args:
            outcome: What became of the record.
            refused_timestamp: The broker refused the event time: the output has the present
                time, and the original in `source.timestamp`.
        """
        if isinstance(outcome, Rejection):
            return self.dead_letter(outcome.record, outcome.reason, outcome.message)
        if isinstance(outcome, Classified):
            record = outcome.document.record
            prediction = outcome.prediction
            return Output(
                record=record,
                kind="labelled",
                topic=self._output_topic,
                partition=self._partition(record),
                key=record.key,
                value=self._label(outcome, refused_timestamp=refused_timestamp),
                headers=_passed_on(record),
                timestamp=_event_time(record, refused=refused_timestamp),
                outcome=outcome,
                label=prediction.label,
                score=prediction.score,
                abstained=prediction.abstained,
            )
        record = outcome.record
        return Output(
            record=record,
            kind="tombstone",
            topic=self._output_topic,
            partition=self._partition(record),
            key=record.key,
            value=None,
            headers=_passed_on(record),
            timestamp=_event_time(record, refused=refused_timestamp),
            outcome=outcome,
        )

    def dead_letter(
        self, record: Record, reason: Reason, message: str, *, cut: bool = False
    ) -> Output:
        """The dead letter of one record: its own bytes, and the reason in headers.

        Args:
            record: The record, untouched.
            reason: Why, from the closed set.
            message: One line for people, without any of the record's text.
            cut: Keep only the first bytes of key and value and none of the record's own headers,
                with the value's size in `dlq.truncated`: for a record that the broker refuses
                otherwise.
        """
        ours = [
            ("dlq.reason", reason),
            ("dlq.message", message),
            ("dlq.topic", record.topic),
            ("dlq.partition", str(record.lease.partition)),
            ("dlq.offset", str(record.offset)),
            ("dlq.timestamp", str(record.timestamp)),
        ]
        key, value, theirs = record.key, record.value, _headers(record)
        if cut:
            ours.append(("dlq.truncated", str(len(value or b""))))
            key = key[:TRUNCATED_VALUE_BYTES] if key is not None else None
            value = value[:TRUNCATED_VALUE_BYTES] if value is not None else None
            theirs = []
        return Output(
            record=record,
            kind="dead_letter",
            topic=self._dlq_topic,
            partition=None,
            key=key,
            value=value,
            headers=theirs + [(name, text.encode()) for name, text in ours],
            timestamp=None,
            reason=reason,
        )

    def _label(self, outcome: Classified, *, refused_timestamp: bool) -> bytes:
        record = outcome.document.record
        prediction = outcome.prediction
        source: dict[str, Any] = {
            "topic": record.topic,
            "partition": record.lease.partition,
            "offset": record.offset,
        }
        if refused_timestamp:
            source["timestamp"] = record.timestamp
        value = {
            "id": outcome.document.id,
            "label": prediction.label,
            "score": prediction.score,
            "scores": dict(zip(self._labels, prediction.scores, strict=True)),
            "model": self._model,
            "source": source,
        }
        if prediction.abstained is not None:
            value["abstained"] = True
            value["abstained_because"] = prediction.abstained
        return orjson.dumps(value)

    def _partition(self, record: Record) -> int | None:
        if self._by_key and record.key is not None:
            return None
        return record.lease.partition % self._partitions


def _headers(record: Record) -> list[tuple[str, bytes]]:
    # The client refuses a null header value; the wire contract makes it empty.
    return [(name, b"" if value is None else value) for name, value in record.headers]


def _passed_on(record: Record) -> list[tuple[str, bytes]]:
    """Those of a label or a tombstone: the value that some of them describe is not there."""
    if not record.headers:
        return []
    return [header for header in _headers(record) if not describes_value(header[0])]


def describes_value(name: str) -> bool:
    """Whether a header says how its record's value is encoded, or by which schema."""
    plain = name.lower().replace("-", "_")
    return plain in _OF_THE_VALUE or plain.startswith(_OF_THE_VALUE_PREFIX)


def _event_time(record: Record, *, refused: bool) -> int | None:
    return None if refused or record.timestamp < 0 else record.timestamp
