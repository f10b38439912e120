"""How a stage takes messages out of its inbox."""

from __future__ import annotations

from queue import Empty
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from queue import SimpleQueue

T = TypeVar("T")


def next_of(inbox: SimpleQueue[T], timeout: float | None) -> T | None:
    """The next message; None when there is none within ``timeout`` seconds; None waits for ever."""
    try:
        return inbox.get(timeout=timeout) if timeout != 0 else inbox.get_nowait()
    except Empty:
        return None
