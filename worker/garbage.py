"""Python's search for reference cycles, set for a process with many values in flight.

By default Python looks at the youngest values after every 700 that were made, and at all of them
again and again while a backlog is worked off, code and model included. No record may become part of
a cycle, not by an error's traceback either: its bytes would wait, and Python counts values and not
bytes (`test_no_record_becomes_part_of_a_cycle`, `test_a_failed_transaction_…`, `test_a_batch_…`).
Clients are full of cycles: whoever ends one that failed calls `now`.
"""

from __future__ import annotations

import gc
import time

YOUNGEST = 50_000
"""Values made, beyond those that ended, before the youngest are looked at."""
OLDER = 20
"""Looks at the youngest before one at the older ones. The oldest are left to Python's rule, which
waits until there are a quarter more of them."""

PAUSE = 1.0
"""Seconds between searches that are asked for: one takes some ms while many records are in flight,
and a topic may refuse outputs, and cost a producer each, again and again."""
_looked = 0.0


def rarely() -> None:
    """From now on, Python looks for cycles more rarely, and never at what there is already.

    Code, libraries and the model live as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, OLDER)


def now() -> None:
    """Looks for cycles among all that was made since the start, but at most once in `PAUSE`.

    For clients that failed: descriptors and buffers are in their cycles. Any thread.
    """
    global _looked  # noqa: PLW0603 - a race looks once more
    at = time.monotonic()
    if at - _looked >= PAUSE:
        _looked = at
        gc.collect()
