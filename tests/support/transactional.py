"""A broker and the client's transactional producer, as far as the worker touches them."""

from types import SimpleNamespace

from kafka.errors import InvalidRecordError, InvalidTimestampError, KafkaError, KafkaTimeoutError

from worker.errors import Transient
from worker.kafka.produce import transaction as transactions

DONE, HANGS = "done, but nobody hears of it", "not done, and nobody hears of it"


class Future:
    def __init__(self, verdict=None):
        self.is_done = verdict != HANGS
        self.exception = verdict if self.is_done else None

    def get(self, timeout):
        if self.exception is not None:
            raise self.exception
        if not self.is_done:
            raise KafkaTimeoutError("not in time")


class Result:
    """Of a transactional request, as the client's: `wait` raises, or says whether it is there."""

    def __init__(self, verdict):
        self.verdict = verdict

    def wait(self, timeout_ms):
        assert 0 < timeout_ms <= transactions.DEADLINE * 1_000
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict is None


class FakeBroker:
    """What is committed, and what becomes of the next requests: `fails` has them by name.

    A record is its topic and number. A verdict is None for well, an exception, `DONE` or `HANGS`.
    """

    def __init__(self):
        self.log, self.offsets, self.producers, self.spans = [], {}, [], []
        self.fails, self.commits = {}, []
        self.refused = set()
        """Records that poison the producer that sends them."""
        self.timely = None
        """The range of timestamps, in ms, that do not poison the producer; None: all."""
        self.innocent_first = False
        """The one before such a record is turned away with it, the first time."""
        self.at_once = False
        """The refusal comes while the rest of the span is still being sent."""

    def producer(self, **options):
        self.options = options
        self.producers.append(Producer(self, options))
        return self.producers[-1]

    def admin(self):
        """Nobody tells the topics' limits."""
        raise Transient("no admin client")

    def verdict(self, request):
        queue = self.fails.get(request)
        return queue.popleft() if queue else None


class Producer:
    def __init__(self, broker, options):
        self.broker, self.open, self.poison = broker, None, None
        self.asked = []
        """The topics of which it was asked for the partitions."""
        self.config = options
        self._closed = self.ended = False
        self._sender = SimpleNamespace(
            force_close=self.end, join=lambda _: None, wakeup=lambda: None
        )
        self._accumulator = SimpleNamespace(has_incomplete=False)
        self._metadata = SimpleNamespace(_partitions={})  # so every output goes through send
        self._transaction_manager = SimpleNamespace(
            send_offsets_to_transaction=self.offsets, begin_commit=self.commit, last_error=None
        )

    def end(self):
        self.ended = True

    def init_transactions(self):
        verdict = self.broker.verdict("init")
        if callable(verdict):
            verdict()
        elif verdict is not None:
            raise verdict

    def partitions_for(self, topic):
        self.asked.append(topic)

    def begin_transaction(self):
        assert not self.ended
        self.open = ([], {})

    def send(self, topic, *, value, timestamp_ms=None, **_):
        number = int(value)
        timely = self.broker.timely
        if self.poison is None and timely and timestamp_ms and timestamp_ms not in timely:
            self.poison = InvalidTimestampError()
        if self.poison is None and (topic, number) in self.broker.refused:
            self.poison = InvalidRecordError()
        if self.poison is not None:
            if self.broker.at_once and self._transaction_manager.last_error is not None:
                raise KafkaError("Cannot perform send because at least one request has failed")
            self._transaction_manager.last_error = self.poison
            return Future(self.poison)
        if (topic, number + 1) in self.broker.refused and self.broker.innocent_first:
            self.broker.innocent_first = False
            return Future(KafkaError("part of a batch which had one or more invalid records"))
        verdict = self.broker.verdict("send")
        self.open[0].append((topic, number))
        return Future(verdict)

    def flush(self, timeout):
        pass

    def offsets(self, offsets, proof):
        self.broker.proof = proof
        verdict = self.broker.verdict("offsets")
        if verdict is None:
            self.open[1].update({p.partition: at.offset for p, at in offsets.items()})
        return Result(verdict)

    def commit(self):
        verdict = self.broker.verdict("commit")
        if verdict in (None, DONE):
            self.broker.log += self.open[0]
            self.broker.spans.append(len(self.open[0]))
            self.broker.commits.append(self.open[1])
            self.broker.offsets |= self.open[1]
        return Result(verdict)

    def close(self, timeout):
        pass
