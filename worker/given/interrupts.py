"""Ctrl-C that a library turns into an error of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def recognised() -> Iterator[None]:
    """Raises KeyboardInterrupt for an error that follows from one.

    A Ctrl-C comes at any instruction. Where it tears a library out of its work, the library's
    cleanup may fail, and that error would be what the user sees.
    """
    try:
        yield
    except Exception as error:
        if _follows(error):
            raise KeyboardInterrupt from error
        raise


def _follows(error: BaseException) -> bool:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        at = waiting.pop()
        if at is None or id(at) in seen:
            continue
        if isinstance(at, KeyboardInterrupt):
            return True
        seen.add(id(at))
        waiting += [at.__cause__, at.__context__]
    return False
