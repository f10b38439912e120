"""The messages of the stream: the project's sentences, and a few bad ones."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING

import orjson

from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = 97
"""Different keys: enough to reach every partition, few enough to repeat."""
BAD_EVERY = 150
"""One message of so many is bad: enough that dead letters are seen, too few to annoy."""
SEED = 7
_PARTS = ("train", "validation", "test")

BAD: tuple[bytes, ...] = (
    b"this is not JSON at all",
    b'{"id": "bad", "txt": "the text is in a field of another name"}',
    b'{"id": "bad", "text": "   "}',
    b'{"id": "bad", "text": 42}',
    b'["a list", "not an object"]',
    b'{"id": "bad", "text": "caf\xe9 in Latin-1"}',
)
"""Values that the worker cannot label, each for a reason of its own."""


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
    """The sentences of a folder."""

    familiar: tuple[Sentence, ...]
    """The training and validation parts: they fill the stream, repeated."""
    held_out: tuple[Sentence, ...]
    """The test part, seen by no training: each is sent once, and the accuracy is theirs."""

    @classmethod
    def read(cls, folder: Path) -> Sentences:
        """Reads the three parts of a folder.

        Raises:
            Fatal: A file is missing or unreadable.
        """
        try:
            parts = {part: _read(folder / f"{part}.jsonl") for part in _PARTS}
        except (OSError, ValueError, KeyError) as error:
            raise Fatal(f"the demo's sentences in {folder} cannot be read: {error}") from error
        return cls(familiar=parts["train"] + parts["validation"], held_out=parts["test"])

    def answers(self) -> dict[str, str]:
        """The label of each held-out message, by the message's id."""
        return {_held_out_id(number): each.label for number, each in enumerate(self.held_out)}


def stream(sentences: Sentences, messages: int, *, forever: bool = False) -> Iterator[Message]:
    """Messages, the same every time: each held-out sentence once, a few bad ones, familiar ones.

    Args:
        sentences: What to make them of.
        messages: How many. Few messages hold fewer bad ones and fewer held-out sentences.
        forever: Whether to go on after them, without end, with familiar and bad ones.
    """
    bad = messages // BAD_EVERY
    held_out = min(len(sentences.held_out), messages - bad)
    kinds = ["held out"] * held_out + ["bad"] * bad
    kinds += ["familiar"] * (messages - len(kinds))
    order = random.Random(SEED)  # noqa: S311 - the order of a demo is no secret
    order.shuffle(kinds)
    more = ("familiar" if number % BAD_EVERY else "bad" for number in count(1))
    sources = {
        "held out": (_labelled(_held_out_id(n), s) for n, s in enumerate(sentences.held_out)),
        "bad": (("bad", BAD[n % len(BAD)]) for n in count()),
        "familiar": _repeated(sentences.familiar, order),
    }
    for number, kind in enumerate(chain(kinds, more if forever else ())):
        identity, value = next(sources[kind])
        yield Message(
            key=f"user-{number * 31 % USERS:02d}".encode(),
            value=value,
            headers=(("origin", b"demo"), ("message", identity.encode())),
        )


def _read(path: Path) -> tuple[Sentence, ...]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return tuple(Sentence(row["text"], row["label"]) for row in rows)


def _held_out_id(number: int) -> str:
    return f"held-out-{number:04d}"


def _labelled(identity: str, sentence: Sentence) -> tuple[str, bytes]:
    return identity, orjson.dumps({"id": identity, "text": sentence.text})


def _repeated(sentences: tuple[Sentence, ...], order: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every sentence once in some order, then again in another, with ids that are all different."""
    for turn in count():
        for number in order.sample(range(len(sentences)), len(sentences)):
            yield _labelled(f"familiar-{number:04d}-{turn}", sentences[number])
