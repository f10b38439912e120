"""Messages at a steady rate, and what became of them."""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import Producer

from tests.support.audit import Verdict, audit, read_committed
from tests.support.kafka_helpers import committed, create_topic, end_offsets, wait_until

_QUIET = {"log_level": 2, "error_cb": lambda _: None}  # brokers are away on purpose here


class Traffic:
    """Three topics of their own and a group, each named after the release that serves them.

    Args:
        bootstrap: Brokers, as this machine reaches them.
        release: The name.
        texts: What is sent, again and again.
        partitions: Of each topic.
    """

    def __init__(
        self, bootstrap: str, release: str, texts: Sequence[str], partitions: int = 6
    ) -> None:
        self.bootstrap, self.group = bootstrap, release
        self.input, self.output, self.dlq = (f"{release}.{role}" for role in ("in", "out", "dlq"))
        self.sent = 0
        self._texts = itertools.cycle(texts)
        for topic in (self.input, self.output, self.dlq):
            create_topic(bootstrap, topic, partitions)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",  # the worker's client's: equal keys, equal numbers
                "linger.ms": 5,
                **_QUIET,
            }
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Of a worker that serves it."""
        return {
            "kafka": {"group_id": self.group},
            "input": {"topic": self.input},
            "output": {"topic": self.output},
            "dlq": {"topic": self.dlq},
        }

    def send(self, count: int, *, rate: float | None = None) -> None:
        """So many messages, as fast as it goes or `rate` a second; returns when they are in."""
        begin = time.monotonic()
        for number in range(count):
            if rate is not None:
                ahead = begin + number / rate - time.monotonic()
                if ahead > 0:
                    self._producer.poll(0)
                    time.sleep(ahead)
            value = json.dumps({"text": next(self._texts), "id": self.sent}).encode()
            self._produce(value, b"key-%d" % (self.sent % 500))
            self.sent += 1
        if left := self._producer.flush(180):
            raise AssertionError(f"the input itself: {left} messages are not acknowledged")

    def _produce(self, value: bytes, key: bytes) -> None:
        while True:
            try:
                self._producer.produce(self.input, value, key)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def background(self, count: int, rate: float) -> threading.Thread:
        """The same on a thread."""
        thread = threading.Thread(target=self.send, args=(count,), kwargs={"rate": rate})
        thread.start()
        return thread

    @contextlib.contextmanager
    def flowing(self, count: int, rate: float) -> Iterator[threading.Thread]:
        """So many messages at that rate, and more until the block ends, however long that takes.

        Yields:
            What sends them: it is alive unless sending failed.
        """
        over = threading.Event()

        def flow() -> None:
            self.send(count, rate=rate)
            while not over.is_set():
                self.send(int(rate), rate=rate)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield thread
        finally:
            over.set()
            thread.join()

    def lag(self) -> int:
        """Records that are not committed, of all that are in the input."""
        ends = end_offsets(self.bootstrap, self.input, "read_committed")
        done = committed(self.bootstrap, self.group)
        return sum(end - done.get(partition, 0) for partition, end in ends.items())

    def outputs(self) -> int:
        """Offsets of the output topic; transactions' markers included."""
        return sum(end_offsets(self.bootstrap, self.output).values())

    def wait_done(self, timeout: float = 300.0) -> None:
        wait_until(lambda: self.lag() == 0, timeout, f"{self.group}: no lag", every=0.5)

    def verdict(self) -> Verdict:
        """Every input ever sent against every output."""
        found = audit(
            *(
                read_committed(self.bootstrap, topic)
                for topic in (self.input, self.output, self.dlq)
            ),
            topic=self.input,
            expected=None,
        )
        if found.inputs != self.sent:
            raise AssertionError(f"the input has {found.inputs} messages, not {self.sent}")
        return found
