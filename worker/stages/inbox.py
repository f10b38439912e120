"""The inboxes of the threads, and how a stage takes messages out of its own."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from worker.messages import ToAssemble, ToClassify, ToPoll, ToPublish

T = TypeVar("T")


class Inboxes:
    """One for each thread that takes messages. Any thread may put something into any of them."""

    def __init__(self) -> None:
        self.poll: SimpleQueue[ToPoll] = SimpleQueue()
        self.assemble: SimpleQueue[ToAssemble] = SimpleQueue()
        self.classify: SimpleQueue[ToClassify] = SimpleQueue()
        self.publish: SimpleQueue[ToPublish] = SimpleQueue()


def next_of(inbox: SimpleQueue[T], timeout: float | None) -> T | None:
    """The next message; None if none comes in `timeout` seconds. A timeout of None has no limit."""
    try:
        return inbox.get(timeout=timeout) if timeout != 0 else inbox.get_nowait()
    except Empty:
        return None
