"""Python's search for reference cycles, set for a process with many values in flight.

By default Python looks at the youngest values after every 700 that were made, and at all of them
again and again while a backlog is worked off: a sixth of what a record cost. Nothing of a record is
part of a cycle; what is (an exception with its traceback, say) waits a little longer.
"""

from __future__ import annotations

import gc

YOUNGEST = 50_000
"""Values made, beyond those that ended, before the youngest are looked at: about 10 MB."""
OLDER = 20
"""Looks at the youngest before one at the older ones. The oldest are left to Python's rule, which
waits until there are a quarter more of them."""


def rarely() -> None:
    """From now on, Python looks for cycles more rarely, and never at what there is already.

    Code, libraries and the model live as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, OLDER)
