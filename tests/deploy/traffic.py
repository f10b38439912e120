"""Mixed input for a while: good, bad and long texts, tombstones, wrong clocks, and a burst."""

import json
import os
import threading
import time

from confluent_kafka import Producer

from tests.support import tiny

TICK = 0.1
LATE = 120
"""Seconds that a burst's records are old."""
BAD = (b"no json", b'{"text": 5}', b"{}", b"\xff", b'["text"]', b'{"text": " "}')


class Traffic:
    """Writes ``rate`` records a second from a thread of its own until it is stopped."""

    def __init__(self, bootstrap, topic, *, rate):
        self.sent = 0
        self._topic = topic
        self._rate = rate
        self._burst = 0
        self._texts = [text for text, _ in tiny.sentences(600, seed=7)]
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "acks": "all"})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def burst(self, records):
        """So many at once, of a while ago."""
        self._burst = records

    def stop(self):
        """Ends, with everything acknowledged."""
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(60) == 0, "the input itself was not acknowledged"

    def _run(self):
        while not self._stopping.wait(TICK):
            late, self._burst = self._burst, 0
            for number in range(int(self._rate * TICK) + late):
                self._send(late=number < late)
            self._producer.poll(0)

    def _send(self, *, late):
        number, at = self.sent, time.time() - (LATE if late else 0)
        text = self._texts[number % len(self._texts)]
        value = json.dumps({"text": text, "id": number}).encode()
        headers = []
        if number % 50 == 7:
            value = BAD[number // 50 % len(BAD)]
        elif number % 50 == 11:
            value = None
        elif number % 25 == 3:
            value = json.dumps({"text": " ".join([text] * 12)}).encode()
        elif number % 100 == 20:
            at += 60  # a producer whose clock is wrong
        elif number % 1_000 == 500 and not late:
            headers = [("trace", os.urandom(30_000))]  # more than the output topic takes
        self._producer.produce(
            self._topic, value, f"user-{number % 300}", timestamp=int(at * 1_000), headers=headers
        )
        self.sent += 1
