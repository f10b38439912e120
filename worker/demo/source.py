"""The stream: what is sent, and the thread that sends it."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

import orjson

from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kafka import KafkaProducer

USERS = 97
"""Keys in the stream: enough to reach every partition, few enough to repeat."""
BAD_EVERY = 150
"""Of so many messages one is bad: enough that dead letters are seen, too few to annoy."""
SEED = 7
_PARTS = ("train", "validation", "test")
_TURN = 0.05
"""Longest wait of the source, in seconds, before it looks whether it should stop."""

_BAD: tuple[bytes, ...] = (
    b"this is not JSON at all",
    b'{"id": "bad", "txt": "the text is in a field of another name"}',
    b'{"id": "bad", "text": "   "}',
    b'{"id": "bad", "text": 42}',
    b'["a list", "not an object"]',
    b'{"id": "bad", "text": "caf\xe9 in Latin-1"}',
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text and the label that its writer gave it."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Message:
    """A record to send."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """What the stream is made of."""

    familiar: tuple[Sentence, ...]
    """Trained or chosen on: they fill the stream, repeated."""
    held_out: tuple[Sentence, ...]
    """Seen by no training: each is sent once, and the accuracy is theirs."""

    @classmethod
    def read(cls, folder: Path) -> Sentences:
        """The three parts of a folder.

        Raises:
            Fatal: A file is missing or unreadable.
        """
        try:
            parts = {part: _read(folder / f"{part}.jsonl") for part in _PARTS}
        except (OSError, ValueError, KeyError) as error:
            raise Fatal(f"the demo's sentences in {folder} cannot be read: {error}") from error
        return cls(familiar=parts["train"] + parts["validation"], held_out=parts["test"])

    def answers(self) -> dict[str, str]:
        """The held-out messages: id to label."""
        return {_held_out_id(number): each.label for number, each in enumerate(self.held_out)}


def stream(sentences: Sentences, messages: int) -> Iterator[Message]:
    """So many messages, the same every time: each held-out sentence once, a few bad ones.

    A stream too short for all of it has fewer bad ones and fewer of the held-out sentences.
    """
    bad = messages // BAD_EVERY
    held_out = min(len(sentences.held_out), messages - bad)
    kinds = ["held out"] * held_out + ["bad"] * bad
    kinds += ["familiar"] * (messages - len(kinds))
    order = random.Random(SEED)  # noqa: S311 - the order of a demo is no secret
    order.shuffle(kinds)
    held = (_labelled(_held_out_id(n), each) for n, each in enumerate(sentences.held_out))
    wrong = (_bad(number) for number in count())
    known = _repeated(sentences.familiar, order)
    sources = {"held out": held, "bad": wrong, "familiar": known}
    for number, kind in enumerate(kinds):
        identity, value = next(sources[kind])
        yield _message(number, identity, value)


def endless(sentences: Sentences, first: int) -> Iterator[Message]:
    """`stream` of the first so many messages, and from there on without an end."""
    yield from stream(sentences, first)
    known = _repeated(sentences.familiar, random.Random(SEED + 1))  # noqa: S311
    for number in count(first):
        bad = number % BAD_EVERY == 0
        identity, value = _bad(number) if bad else next(known)
        yield _message(number, f"{identity}-{number}", value)


class Source:
    """Sends messages at a rate, on a thread of its own, which owns the producer.

    Args:
        producer: A producer; it is closed at the end.
        topic: The input topic.
        messages: What to send; the thread ends with it.
        rate: Messages a second.
        may_send: Whether there is room for more: what the worker cannot keep up with waits here.
    """

    def __init__(
        self,
        *,
        producer: KafkaProducer,
        topic: str,
        messages: Iterator[Message],
        rate: float,
        may_send: Callable[[], bool],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._messages = messages
        self._rate = rate
        self._may_send = may_send
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self.sent = 0
        """Handed to the producer; all are acknowledged once the thread has ended well."""
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """No more messages; returns when those that were sent are acknowledged."""
        self._stop.set()
        self._thread.join(timeout)

    def ended(self) -> bool:
        """Whether everything is sent and acknowledged.

        Raises:
            Fatal: A message could not be sent.
        """
        if self._failure is not None:
            raise Fatal(f"the demo cannot send its messages: {self._failure}") from self._failure
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._send_all()
            self._producer.flush(timeout=30)
        except Exception as error:  # noqa: BLE001 - a thread's boundary: the owner raises it
            self._refused(error)
        try:
            self._producer.close(timeout=5)
        except Exception as error:  # noqa: BLE001 - likewise
            self._refused(error)

    def _send_all(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set() and self._failure is None:
            wait = due - time.monotonic()
            if wait > 0 or not self._may_send():
                self._stop.wait(min(max(wait, 0.001), _TURN))
                continue
            message = next(self._messages, None)
            if message is None:
                return
            self._send(message)
            # Not more than a second's worth is made up for after a wait: else a stall would
            # be followed by a flood.
            due = max(due + 1 / self._rate, time.monotonic() - 1)

    def _send(self, message: Message) -> None:
        self._producer.send(
            self._topic, key=message.key, value=message.value, headers=list(message.headers)
        ).add_errback(self._refused)
        self.sent += 1

    def _refused(self, error: Exception) -> None:
        self._failure = self._failure or error


def _read(path: Path) -> tuple[Sentence, ...]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return tuple(Sentence(row["text"], row["label"]) for row in rows)


def _held_out_id(number: int) -> str:
    return f"held-out-{number:04d}"


def _labelled(identity: str, sentence: Sentence) -> tuple[str, bytes]:
    return identity, orjson.dumps({"id": identity, "text": sentence.text})


def _bad(number: int) -> tuple[str, bytes]:
    return "bad", _BAD[number % len(_BAD)]


def _repeated(sentences: tuple[Sentence, ...], order: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every sentence once in some order, then again in another, with ids that are all different."""
    for turn in count():
        for number in order.sample(range(len(sentences)), len(sentences)):
            yield _labelled(f"familiar-{number:04d}-{turn}", sentences[number])


def _message(number: int, identity: str, value: bytes) -> Message:
    return Message(
        key=f"user-{number * 31 % USERS:02d}".encode(),
        value=value,
        headers=(("origin", b"demo"), ("message", identity.encode())),
    )


def first(sentences: Sentences, messages: int) -> list[Message]:
    """The stream as a list, for those who want to look at it."""
    return list(islice(stream(sentences, messages), messages))
