"""The plain loop of kafka-python, with no model: what the client alone can do.

    python -m tests.benchmarks.hostpath.plain_loop BOOTSTRAP TOPIC OUTPUT GROUP MESSAGES

Polls, sends each value on under its key, flushes, commits; the batching is the client's own. Prints
the messages/s between a tenth and all of the messages.
"""

import sys
import time

from kafka import KafkaConsumer, KafkaProducer

AT_ONCE = 1_000


def main() -> None:
    bootstrap, topic, output, group, count = sys.argv[1:]
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False,
        auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=50,
    )  # fmt: skip
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, compression_type="lz4",
        linger_ms=5, batch_size=262_144,
    )  # fmt: skip
    done, first, begin = 0, 0, 0.0
    while done < int(count):
        for records in consumer.poll(timeout_ms=1_000, max_records=AT_ONCE).values():
            for record in records:
                producer.send(
                    output, value=record.value, key=record.key, timestamp_ms=record.timestamp
                )
            done += len(records)
        producer.flush()
        consumer.commit()
        if not first and done >= int(count) // 10:
            begin, first = time.perf_counter(), done
    print((done - first) / (time.perf_counter() - begin))
    producer.close()
    consumer.close()


if __name__ == "__main__":
    main()
